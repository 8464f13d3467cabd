//! Case tables, goldens, comparison, and the device that tests run on.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use safetensors::SafeTensors;
use sonolume::gpu::Context;
use sonolume::{HostTensor, Shape};

/// One line of a case table: `field=value` pairs, lines starting with `default` filling in what later ones leave out.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    fields: BTreeMap<String, String>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Case {
    /// All cases of a table.
    pub fn parse(stem: &str, table: &str) -> Vec<Self> {
        let mut defaults = BTreeMap::new();
        let mut cases = Vec::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (line, is_default) = line.strip_prefix("default ").map_or((line, false), |rest| (rest, true));
            let mut fields = defaults.clone();
            for pair in line.split_whitespace() {
                let (key, value) =
                    pair.split_once('=').unwrap_or_else(|| panic!("{stem}: `{pair}` is not field=value"));
                fields.insert(key.to_owned(), value.to_owned());
            }
            if is_default {
                defaults = fields;
            } else {
                cases.push(Self { name: format!("{stem} {line}"), fields });
            }
        }
        assert!(!cases.is_empty(), "{stem}: the table has no cases");
        cases
    }

    pub fn text(&self, key: &str) -> &str {
        self.fields.get(key).unwrap_or_else(|| panic!("{self}: no field {key}"))
    }

    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    pub fn number<T: FromStr>(&self, key: &str) -> T {
        self.text(key).parse().unwrap_or_else(|_| panic!("{self}: {key} is not a number"))
    }

    /// `CxHxW`.
    pub fn shape(&self, key: &str) -> Shape {
        let [channels, height, width] = self.numbers(key, 'x')[..] else { panic!("{self}: {key} is not CxHxW") };
        Shape::new(channels, height, width)
    }

    /// `VxH`: vertical, horizontal.
    pub fn pair(&self, key: &str) -> [usize; 2] {
        let [vertical, horizontal] = self.numbers(key, 'x')[..] else { panic!("{self}: {key} is not VxH") };
        [vertical, horizontal]
    }

    /// `top,bottom,left,right`.
    pub fn sides(&self, key: &str) -> [[usize; 2]; 2] {
        let [top, bottom, left, right] = self.numbers(key, ',')[..] else { panic!("{self}: {key} has not four sides") };
        [[top, bottom], [left, right]]
    }

    fn numbers(&self, key: &str, separator: char) -> Vec<usize> {
        let number = |part: &str| part.parse().unwrap_or_else(|_| panic!("{self}: {key} is not made of numbers"));
        self.text(key).split(separator).map(number).collect()
    }

    /// The operator that the table is of.
    pub fn stem(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// The case's name without its stem: what the golden's tensors start with.
    pub fn key(&self) -> &str {
        self.name.split_once(' ').map_or("", |(_, key)| key)
    }
}

/// A golden file of `tests/goldens`: tensors made by PyTorch.
pub struct Golden {
    bytes: Vec<u8>,
    path: String,
}

impl Golden {
    /// Opens `tests/goldens/<name>.safetensors`. A missing golden fails the test.
    pub fn open(name: &str) -> Self {
        let path = format!("{}/tests/goldens/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}; make it with tests/goldens/make_ops.py"));
        Self { bytes, path }
    }

    /// Shape and elements of a tensor; `None` if there is none of the name.
    pub fn find(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.path));
        let view = file.tensor(name).ok()?;
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{}: {name}", self.path);
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Some((view.shape().to_vec(), values))
    }

    /// A tensor `[1, channels, height, width]`.
    pub fn image(&self, name: &str) -> Option<HostTensor> {
        let (shape, values) = self.find(name)?;
        let [1, channels, height, width] = shape[..] else {
            panic!("{}: {name} is {shape:?}, not one image", self.path)
        };
        Some(HostTensor::new(Shape::new(channels, height, width), values).unwrap())
    }
}

/// Fails unless `actual` is within `tolerance` of `expected`, relative to the largest expected magnitude. NaN fails.
pub fn assert_close(what: &dyn fmt::Display, actual: &HostTensor, expected: &HostTensor, tolerance: f32) {
    if let Err(message) = compare(actual, expected, tolerance) {
        panic!("{what}: {message}");
    }
}

/// See [`assert_close`].
pub fn compare(actual: &HostTensor, expected: &HostTensor, tolerance: f32) -> Result<f32, String> {
    if actual.shape() != expected.shape() {
        return Err(format!("the shape is {}, expected {}", actual.shape(), expected.shape()));
    }
    let range = expected.data().iter().fold(0.0f32, |range, value| range.max(value.abs())).max(1e-6);
    let shape = expected.shape();
    let mut worst = 0.0f32;
    for (index, (a, e)) in actual.data().iter().zip(expected.data()).enumerate() {
        let error = (a - e).abs() / range;
        if error.is_nan() || error > tolerance {
            let (x, row) = (index % shape.width, index / shape.width);
            let (y, channel) = (row % shape.height, row / shape.height);
            return Err(format!(
                "at c={channel} y={y} x={x}: {a}, expected {e} (error {error:e} of the range {range})"
            ));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// The device for tests: `SONOLUME_TEST_DEVICE` if set, else the best GPU, else a software driver. None is a failure.
pub fn context() -> Arc<Context> {
    static CONTEXT: OnceLock<Arc<Context>> = OnceLock::new();
    CONTEXT
        .get_or_init(|| {
            let context = pollster::block_on(async {
                if let Ok(name) = std::env::var("SONOLUME_TEST_DEVICE") {
                    return Context::named(&name).await;
                }
                match Context::automatic().await? {
                    Some(context) => Ok(context),
                    None => Context::named("llvmpipe").await,
                }
            });
            let context = context.expect("tests need a GPU or Mesa's lavapipe (Debian: mesa-vulkan-drivers)");
            println!("adapter: {:?}", context.info());
            context
        })
        .clone()
}

/// The same device opened without subgroups: kernels then share nothing between lanes, as on most devices.
pub fn context_without_subgroups() -> Arc<Context> {
    let (_, device, queue) = open(|limits| limits);
    Context::from_wgpu(device, queue)
}

/// The tests' adapter and it opened as a host application might, without features and with `limits` of the adapter's.
pub fn open(limits: impl FnOnce(wgpu::Limits) -> wgpu::Limits) -> (wgpu::Adapter, wgpu::Device, wgpu::Queue) {
    let name = context().info().name.clone();
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(async {
        let adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
        let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).expect("the same adapter");
        let descriptor = wgpu::DeviceDescriptor { required_limits: limits(adapter.limits()), ..Default::default() };
        let (device, queue) = adapter.request_device(&descriptor).await.expect("a device");
        (adapter, device, queue)
    })
}

/// A device that multiplies matrices, or `None` if there is none here: graphics cards, which use them in every test in 16 bits,
/// and newer software drivers of Mesa (26.2 has them, 22.3 does not), which would not.
pub fn context_with_matrices() -> Option<Arc<Context>> {
    let context = pollster::block_on(Context::with_matrices()).expect("a device");
    if context.is_none() {
        println!("no device here multiplies matrices: not tested");
    }
    context
}

#[test]
fn the_comparator_rejects_what_it_should() {
    let tensor = |values: &[f32]| HostTensor::new(Shape::new(1, 1, values.len()), values.to_vec()).unwrap();
    let expected = tensor(&[1.0, -2.0, 4.0]);
    assert!(compare(&expected, &expected, 0.0).is_ok());
    assert!(compare(&tensor(&[1.0, f32::NAN, 4.0]), &expected, 1.0).is_err());
    assert!(compare(&tensor(&[1.0, -2.0, 4.1]), &expected, 1e-2).is_err());
    assert!(compare(&tensor(&[1.0, -2.0]), &expected, 1.0).is_err());
}

#[test]
#[should_panic(expected = "make it with")]
fn a_missing_golden_fails() {
    Golden::open("no such golden");
}
