//! [`export!`]: from a type that implements an extension point's traits to a component.
//!
//! It makes one seat (a `thread_local`, a plain static in a guest) and calls the export macro of the
//! small world of each interface named. Natively it only checks that the traits are there, so that the
//! same crates can be linked together into tests and benches.

/// Makes the crate a component: `export!(scheduler: filter, score => MyPolicy)`.
///
/// The point is the name of one of this crate's modules, then come the interfaces that the type
/// implements, as in the point's WIT package with `_` for `-`. Of `capstan:plugin`, `guest` is always
/// exported; `self_test` and `hand_off` are named where the plugin has them. A scheduler policy always
/// exports `view`, which keeps its tables.
#[macro_export]
macro_rules! export {
    (scheduler: $($interface:ident),+ $(,)? => $plugin:ty) => {
        $crate::__component!(scheduler $plugin: view $(, $interface)+);
    };
    ($point:ident: $($interface:ident),+ $(,)? => $plugin:ty) => {
        $crate::__component!($point $plugin: $($interface),+);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __component {
    ($point:ident $plugin:ty: $($interface:ident),+) => {
        #[allow(unsafe_code, missing_docs, unused_imports, clippy::all)]
        const _: () = {
            struct CapstanComponent;

            ::std::thread_local! {
                static SEAT: ::std::cell::RefCell<::std::option::Option<$crate::$point::Runner<$plugin>>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            impl $crate::seat::Component for CapstanComponent {
                type Seated = $crate::$point::Runner<$plugin>;
                const NAME: &'static str = ::std::env!("CARGO_PKG_NAME");
                const VERSION: &'static str = ::std::env!("CARGO_PKG_VERSION");
                const SUMMARY: &'static str = ::std::env!("CARGO_PKG_DESCRIPTION");

                fn seat<R>(act: impl FnOnce(&mut ::std::option::Option<Self::Seated>) -> R) -> R {
                    SEAT.with(|seat| act(&mut seat.borrow_mut()))
                }
            }

            $crate::__interface!(plugin guest);
            $($crate::__interface!($point $interface);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __interface {
    ($point:ident self_test) => { $crate::__world!(plugin_self_test plugin self_test); };
    ($point:ident hand_off) => { $crate::__world!(plugin_hand_off plugin hand_off); };
    (plugin guest) => { $crate::__world!(plugin_guest plugin guest); };
    (scheduler view) => { $crate::__world!(scheduler_view scheduler view); };
    (scheduler enqueue) => { $crate::__world!(scheduler_enqueue scheduler enqueue); };
    (scheduler filter) => { $crate::__world!(scheduler_filter scheduler filter); };
    (scheduler score) => { $crate::__world!(scheduler_score scheduler score); };
    (scheduler queue_sort) => { $crate::__world!(scheduler_queue_sort scheduler queue_sort); };
    (scheduler pre_filter) => { $crate::__world!(scheduler_pre_filter scheduler pre_filter); };
    (scheduler what_if) => { $crate::__world!(scheduler_what_if scheduler what_if); };
    (scheduler post_filter) => { $crate::__world!(scheduler_post_filter scheduler post_filter); };
    (scheduler pre_score) => { $crate::__world!(scheduler_pre_score scheduler pre_score); };
    (scheduler reserve) => { $crate::__world!(scheduler_reserve scheduler reserve); };
    (scheduler permit) => { $crate::__world!(scheduler_permit scheduler permit); };
    (scheduler pre_bind) => { $crate::__world!(scheduler_pre_bind scheduler pre_bind); };
    (scheduler bind) => { $crate::__world!(scheduler_bind scheduler bind); };
    (scheduler post_bind) => { $crate::__world!(scheduler_post_bind scheduler post_bind); };
    (scheduler hints) => { $crate::__world!(scheduler_hints scheduler hints); };
    (admission validate) => { $crate::__world!(admission_validate admission validate); };
    (admission mutate) => { $crate::__world!(admission_mutate admission mutate); };
    (problem monitor) => { $crate::__world!(problem_monitor problem monitor); };
    (remedy decide) => { $crate::__world!(remedy_decide remedy decide); };
    (sidecar logs) => { $crate::__world!(sidecar_logs sidecar logs); };
    (sidecar adapter) => { $crate::__world!(sidecar_adapter sidecar adapter); };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __world {
    ($world:ident $package:ident $interface:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::wit::$world::export!(CapstanComponent with_types_in $crate::wit::$world);
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn implements<T: $crate::wit::$world::exports::capstan::$package::$interface::Guest>() {}
            implements::<CapstanComponent>();
        };
    };
}
