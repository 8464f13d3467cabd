//! Every shader validates, and its bindings, parameters and limits match the host side. Needs no adapter.

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use sonolume::Shape;
use sonolume::gpu::{Precision, source};
use sonolume::ops::conv2d::Conv2d;
use sonolume::ops::window_attention::QUERIES;
use sonolume::ops::{Border, Io, Matrices, Operator, Place, Shader, Traits};

/// Every kernel: the operators', and those that move images in and out.
fn shaders() -> Vec<&'static Shader> {
    [sonolume::ops::shaders(), sonolume::gpu::SHADERS.to_vec()].concat()
}

/// WebGPU's default limits: what every device has.
const PORTABLE_INVOCATIONS: u32 = 256;
const PORTABLE_WORKGROUP_BYTES: u32 = 16384;

fn module(shader: &Shader, precision: Precision) -> naga::Module {
    module_for(shader, precision, false)
}

fn module_for(shader: &Shader, precision: Precision, eight_lanes: bool) -> naga::Module {
    let text = source(shader, precision, eight_lanes);
    naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{}: {}", shader.name, error.emit_to_string(&text)))
}

/// Whether a kernel multiplies matrices; it then runs in 16 bits only.
fn uses_matrices(shader: &Shader) -> bool {
    shader.library.iter().any(|library| library.source.contains("coop_mat"))
}

#[test]
fn every_shader_validates_in_both_precisions() {
    for shader in shaders() {
        for precision in [Precision::F32, Precision::F16] {
            let matrices = if uses_matrices(shader) {
                Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP
            } else {
                Capabilities::empty()
            };
            for (eight_lanes, more) in [(false, Capabilities::empty()), (true, Capabilities::SUBGROUP)] {
                let module = module_for(shader, precision, eight_lanes);
                Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16 | matrices | more)
                    .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
                    .subgroup_operations(SubgroupOperationSet::BALLOT)
                    .validate(&module)
                    .unwrap_or_else(|error| panic!("{}: {error:?}", shader.name));
            }
        }
    }
}

#[test]
fn bindings_are_numbered_from_zero_and_the_result_is_last() {
    for shader in shaders() {
        let module = module(shader, Precision::F32);
        let mut bindings: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, v)| v.binding.map(|b| (b.binding, b.group, v.space)))
            .collect();
        bindings.sort_by_key(|(binding, ..)| *binding);
        let last = bindings.len() - 1;
        for (index, (binding, group, space)) in bindings.into_iter().enumerate() {
            assert_eq!((binding as usize, group), (index, 0), "{}", shader.name);
            match space {
                // Blocks of weights may stand in uniform memory too.
                naga::AddressSpace::Uniform => assert!(index < last, "{}: binding {index}", shader.name),
                naga::AddressSpace::Storage { access } => {
                    let writes = access.contains(naga::StorageAccess::STORE);
                    assert_eq!(writes, index == last, "{}: only the last binding is written", shader.name);
                }
                // Textures of the import and export kernels.
                naga::AddressSpace::Handle => assert!(index > 0, "{}: binding {index}", shader.name),
                other => panic!("{}: binding {index} is {other:?}", shader.name),
            }
        }
    }
}

#[test]
fn params_have_the_layout_of_the_host_side() {
    for shader in shaders() {
        let module = module(shader, Precision::F32);
        let (_, params) = module
            .types
            .iter()
            .find(|(_, kind)| kind.name.as_deref() == Some("Params"))
            .unwrap_or_else(|| panic!("{}: no struct Params", shader.name));
        let naga::TypeInner::Struct { members, .. } = &params.inner else { panic!("{}: Params", shader.name) };
        let found: Vec<_> = members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize)).collect();
        let expected: Vec<_> = shader.params.iter().map(|&(name, offset)| (name.to_owned(), offset)).collect();
        assert_eq!(found, expected, "{}", shader.name);
    }
}

#[test]
fn workgroups_fit_the_portable_limits() {
    // Those with matrices have a test of their own.
    for shader in shaders().into_iter().filter(|shader| !uses_matrices(shader)) {
        let module = module(shader, Precision::F32);
        let [entry] = &module.entry_points[..] else { panic!("{}: one entry point is expected", shader.name) };
        assert_eq!(entry.name, "main", "{}", shader.name);
        let mut invocations: u32 = entry.workgroup_size.iter().product();
        if entry.workgroup_size_overrides.is_some() {
            assert_eq!(shader.name, "window_attention", "what are its invocations?");
            assert!(QUERIES.iter().all(|queries| queries % 8 == 0), "lanes share what they read by eights");
            invocations = QUERIES.into_iter().max().unwrap() as u32;
        }
        assert!(invocations <= PORTABLE_INVOCATIONS, "{}: {invocations} invocations", shader.name);
        let bytes = workgroup_bytes(&module);
        assert!(bytes <= PORTABLE_WORKGROUP_BYTES, "{}: {bytes} bytes of workgroup memory", shader.name);
    }
}

fn workgroup_bytes(module: &naga::Module) -> u32 {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let variables = module.global_variables.iter().map(|(_, variable)| variable);
    variables.filter(|v| v.space == naga::AddressSpace::WorkGroup).map(|v| layouter[v.ty].size).sum()
}

/// Kernels with matrices run where there is enough for them: their workgroup memory depends on what they convolve.
#[test]
fn workgroups_with_matrices_fit_what_is_asked_of_a_device() {
    for matrices in [Matrices::Eight, Matrices::Sixteen] {
        let traits = Traits { matrices: Some(matrices), halves: true, ..Traits::default() };
        let mut most = 0;
        for (channels, kernel, dilation) in
            [16, 24, 48, 64, 80, 180, 512].into_iter().flat_map(|c| [(c, 1, 1), (c, 3, 1), (c, 3, 2), (c, 5, 1)])
        {
            let mut conv = Conv2d::same(channels, channels, kernel, Border::Zero);
            (conv.dilation, conv.padding) = ([dilation; 2], [[dilation * (kernel / 2); 2]; 2]);
            let place = Place::whole(Shape::new(channels, 30, 40));
            let dispatches = conv.dispatches(&Io { inputs: vec![place], output: place }, traits).unwrap();
            let [dispatch] = &dispatches[..] else { panic!("one launch") };
            assert!(uses_matrices(dispatch.shader), "{channels} channels, {kernel} taps");
            let module = module(dispatch.shader, Precision::F16);
            let info = Validator::new(ValidationFlags::all(), Capabilities::all())
                .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
                .subgroup_operations(SubgroupOperationSet::all())
                .validate(&module)
                .unwrap();
            let constants = dispatch.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
            let (module, _) = process_overrides(&module, &info, None, &constants).unwrap();
            let invocations: u32 = module.entry_points[0].workgroup_size.iter().product();
            assert!(invocations.is_multiple_of(matrices.lanes()) && invocations <= PORTABLE_INVOCATIONS);
            let bytes = workgroup_bytes(&module) as usize;
            assert!(bytes <= matrices.workgroup_bytes(), "{channels} channels, {kernel} taps: {bytes} bytes");
            most = most.max(bytes);
        }
        assert!(2 * most > matrices.workgroup_bytes(), "{matrices:?}: no more than {most} bytes are taken");
    }
}

#[test]
fn overrides_have_no_defaults() {
    for shader in shaders() {
        for (_, constant) in module(shader, Precision::F32).overrides.iter() {
            // Expressions of others have no name.
            let given = constant.name.is_none() || constant.init.is_none();
            assert!(given, "{}: {:?} has a default", shader.name, constant.name);
        }
    }
}
