//! Which devices benches run on, and how long they may take.

use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use sonolume::gpu::Context;

/// The CPU, and the best GPU if there is one; or what `SONOLUME_BENCH_DEVICE` names, separated by commas, such as
/// `cpu,llvmpipe`. The CPU has no context.
pub fn devices() -> Vec<(String, Option<Arc<Context>>)> {
    let named = std::env::var("SONOLUME_BENCH_DEVICE").ok();
    let names = named.as_deref().unwrap_or("cpu,gpu").split(',');
    let open = |name: &str| {
        if name == "cpu" {
            return Some(("cpu".to_owned(), None));
        }
        let context = if name == "gpu" {
            pollster::block_on(Context::automatic()).expect("a device")?
        } else {
            pollster::block_on(Context::named(name)).expect("the named device")
        };
        Some((context.info().name.clone(), Some(context)))
    };
    names.filter_map(open).collect()
}

/// Ten samples each, and no longer than they need: there are hundreds of cases, and each may run on a slow device.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args()
}
