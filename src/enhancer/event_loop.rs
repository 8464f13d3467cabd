//! Lets a browser's event loop turn between tiles, so that a message asking to stop arrives while the CPU works.

/// Natively there is nothing to wait for: other threads run beside.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn turn() {}

/// Returns once the tasks that are waiting have run.
#[cfg(target_arch = "wasm32")]
pub(super) async fn turn() {
    use js_sys::{Function, Promise, Reflect};
    use wasm_bindgen::{JsCast, JsValue};

    // Windows and workers have the function in common, but no type that web-sys could name.
    let timer = Reflect::get(&js_sys::global(), &JsValue::from_str("setTimeout"));
    if let Some(timer) = timer.ok().and_then(|timer| timer.dyn_into::<Function>().ok()) {
        let promise = Promise::new(&mut |resolve, _| {
            // A host without timers has no tasks either.
            let _ = timer.call2(&JsValue::UNDEFINED, &resolve, &JsValue::from_f64(0.0));
        });
        let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
    }
}
