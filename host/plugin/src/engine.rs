//! The one Wasm engine of a plugin host.
//!
//! Pooled instances (so that a fresh one costs microseconds), epochs instead of fuel (a tenth of the
//! cost), no component-model concurrency (it doubles the price of a call). Sizes are modest: what is not
//! used stays unmapped, so an idle host is small. Called by [`crate::Host`] alone. Not here: deadlines
//! (`budget`), memory limits (`state`).

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::limits::MEMORY_MAX_BYTES;

/// How many component instances a host runs at once: resident ones, log streams and admission together.
pub(crate) const INSTANCES_MAX: u32 = 400;
/// Core modules in one component: its own, and the shims that a component is wrapped with. An interpreter comes with
/// its libraries linked at start: CPython has 38.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;
/// Elements of one function table.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Slots that keep their memory mapped for the next instance.
const WARM_SLOTS_MAX: u32 = 16;
/// Bytes of a warm slot that are cleared by hand instead of being given back to the system.
const WARM_BYTES: usize = 128 << 10;
const STACK_BYTES: usize = 512 << 10;
/// The stack of a guest that runs in slices: its own, and what host calls need.
const SLICED_STACK_BYTES: usize = 2 * STACK_BYTES;

/// The engine, with pooled instances wherever the address space allows for them.
pub(crate) fn open() -> wasmtime::Result<Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no room for pooled plugin instances; each will be allocated by itself");
        Engine::new(&base())
    })
}

fn base() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(SLICED_STACK_BYTES)
        .memory_init_cow(true);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * 4)
        .total_memories(INSTANCES_MAX)
        .total_stacks(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * 4)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(1)
        .max_tables_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_MAX_BYTES as usize)
        .max_unused_warm_slots(WARM_SLOTS_MAX)
        .linear_memory_keep_resident(WARM_BYTES)
        .table_keep_resident(WARM_BYTES)
        // The kernel says which pages a guest wrote: those alone are cleared, where a guest's stack stands high
        // above the start of its memory.
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pooled_engine_opens() {
        super::open().expect("an engine");
    }
}
