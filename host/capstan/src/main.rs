//! The binary: command line and composition root. Every part of the cluster is joined here and only here.

mod apiserver;
mod arguments;
mod bundle;
mod identity;
mod image;
mod kubelets;
mod plugin_pages;
mod plugins;
mod screen;
mod store;
mod store_of_up;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command, Plugin};

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Up(options) => up::run(options),
        Command::Store(command) => store::run(command),
        Command::Image(command) => image::run(command),
        Command::Plugin(Plugin::Author(command)) => capstan_author::run(command).map_err(Into::into),
        Command::Plugin(Plugin::Operate(command)) => {
            capstan_operate::run(command, || bundle::plugins().into_iter().collect()).map_err(Into::into)
        }
        Command::Precompile { folder } => bundle::precompile(&folder),
        Command::Shim { arguments } => {
            return ExitCode::from(u8::try_from(capstan_runtime::shim_main(arguments)).unwrap_or(1));
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
