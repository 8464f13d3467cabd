//! Weights that fit no architecture: the message says which come close, and which tensors do not fit.

use std::path::Path;

use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use sonolume::models::{Model, architectures};
use sonolume::weights::Weights;

/// Tensors by name and shape, all zeros: what the names and shapes say is all that counts here.
type Tensors = Vec<(String, Vec<usize>)>;

fn golden(name: &str) -> Tensors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/models/{name}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
}

fn refusal(tensors: &Tensors) -> String {
    let most = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).max().unwrap_or(0);
    let zeros = vec![0u8; 4 * most];
    let views = tensors.iter().map(|(name, shape)| {
        let bytes = 4 * shape.iter().product::<usize>();
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), &zeros[..bytes]).unwrap())
    });
    let file = serialize(views, None).unwrap();
    Weights::from_bytes(file).and_then(|weights| Model::load("x", weights)).map(|_| ()).unwrap_err().to_string()
}

/// The line about an architecture.
fn line<'m>(message: &'m str, architecture: &str) -> &'m str {
    let start = format!("  {architecture} (");
    message.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {architecture} in: {message}"))
}

const CASES: &[(&str, &str, &[&str])] = &[
    ("rrdbnet-x4", "RRDBNet", &["conv_first.weight", "body.0.rdb2.conv3.weight", "conv_body.weight", "conv_hr.weight"]),
    ("compact-x4", "SRVGGNetCompact", &["body.0.weight", "body.2.weight"]),
    ("dncnn", "DnCNN", &["model.0.weight", "model.5.weight", "model.6.running_var"]),
    ("nafnet", "NAFNet", &["intro.weight", "encoders.1.1.sca.1.weight", "ups.0.0.weight", "ending.weight"]),
    (
        "restormer",
        "Restormer",
        &["patch_embed.proj.weight", "latent.0.attn.project_out.weight", "reduce_chan_level3.weight"],
    ),
    (
        "swinir-real-x4",
        "SwinIR",
        &["conv_first.weight", "layers.1.residual_group.blocks.1.attn.proj.weight", "norm.weight"],
    ),
    (
        "resnet-batch",
        "CycleGAN ResNet generator",
        &["model.1.weight", "model.4.weight", "model.11.conv_block.5.weight"],
    ),
    ("unet-batch", "pix2pix U-Net generator", &["model.model.0.weight", "model.model.1.model.3.model.1.weight"]),
    (
        "attention-unet-monai",
        "MONAI attention U-Net",
        &["model.0.conv.0.conv.weight", "model.1.submodule.1.merge.conv.weight"],
    ),
    ("attention-unet", "attention U-Net", &["Conv1.conv.0.weight", "Att3.psi.0.weight", "Up_conv2.conv.3.weight"]),
    ("mimicknet", "MimickNet", &["conv2d_transpose_1.weight"]),
    ("usenhance-side", "USenhance ResNet", &["stem.conv.weight", "side.project.weight", "up.1.norm.weight"]),
    ("swin-v2-unet", "Swin V2 U-Net", &["encoder.patch_embed.proj.weight", "decoder.2.conv1.weight", "head.weight"]),
    ("sonolume", "sonolume", &["stem.weight", "middle.1.qkv.weight", "head.mix.weight"]),
];

#[test]
fn a_renamed_tensor_is_named_under_its_architecture() {
    for &(name, architecture, victims) in CASES {
        for victim in victims {
            let mut tensors = golden(name);
            tensors.iter_mut().find(|(tensor, _)| tensor == victim).unwrap_or_else(|| panic!("{name}: {victim}")).0 =
                format!("{victim}s");
            let message = refusal(&tensors);
            let line = line(&message, architecture);
            assert!(line.contains(&format!("{victim}s")), "{name}, {victim} renamed: {message}");
            assert!(line.contains(&format!("{victim}`")), "{name}, {victim} renamed: {message}");
        }
    }
}

#[test]
fn a_missing_tensor_is_named_under_its_architecture() {
    for &(name, architecture, victims) in CASES {
        for victim in victims {
            let mut tensors = golden(name);
            tensors.retain(|(tensor, _)| tensor != victim);
            let message = refusal(&tensors);
            assert!(line(&message, architecture).contains(&format!("{victim}`")), "{name} without {victim}: {message}");
        }
    }
}

#[test]
fn another_shape_is_shown_beside_the_expected_one() {
    for &(name, architecture, victims) in CASES {
        for victim in victims {
            for change in [-1i64, 1] {
                let mut tensors = golden(name);
                let shape = &mut tensors.iter_mut().find(|(tensor, _)| tensor == victim).unwrap().1;
                // An axis less; or a few more of what comes first.
                if change < 0 {
                    shape.pop();
                } else {
                    shape[0] += 5;
                }
                let shape = format!("{shape:?}");
                let message = refusal(&tensors);
                let line = line(&message, architecture);
                let says = ["expected", "needs", "do not divide", "do not go together"]
                    .iter()
                    .any(|words| line.contains(words));
                assert!(says && line.contains('`'), "{name}, {victim} of {shape}: {message}");
            }
        }
    }
}

#[test]
fn signatures_know_all_tensors_of_the_small_generators() {
    for model in crate::models::tiny_models() {
        let mut tensors = golden(&model.name);
        let known = tensors.len();
        tensors.push(("a.stray.tensor".into(), vec![1]));
        let message = refusal(&tensors);
        let counted = format!("({known} of {} tensors have its names)", known + 1);
        assert!(line(&message, &model.architecture).contains(&counted), "{}: {message}", model.name);
    }
}

/// Networks of known architectures with a part that is not supported: the message says what it means.
#[test]
fn unsupported_variants_are_explained() {
    let mut placed = golden("swinir-light-x4");
    placed.push(("absolute_pos_embed".into(), vec![1, 64, 12]));
    let message = refusal(&placed);
    let line_of = |message: &str, architecture| line(message, architecture).to_owned();
    assert!(line_of(&message, "SwinIR").contains("works at that size alone"), "{message}");

    // Sixteen pixels at once, and features enlarged twice: an image of half the size.
    for (name, architecture, first) in
        [("rrdbnet-trunk-x2", "RRDBNet", "conv_first"), ("swinir-unshuffle-x2", "SwinIR", "conv_first.1")]
    {
        let mut halved = golden(name);
        halved.retain(|(tensor, _)| !tensor.starts_with("conv_up2."));
        halved.iter_mut().find(|(tensor, _)| *tensor == format!("{first}.weight")).unwrap().1[1] = 48;
        let message = refusal(&halved);
        let line = line_of(&message, architecture);
        assert!(line.contains("fractions of a pixel") && line.contains(&format!("`{first}.weight`")), "{message}");
    }

    // Batch norm in the dense blocks, as the oldest code can have it.
    let mut normed = golden("rrdbnet-old-x4");
    normed.push(("model.1.sub.0.RDB1.conv1.1.running_mean".into(), vec![5]));
    let message = refusal(&normed);
    assert!(line_of(&message, "RRDBNet").contains("`model.1.sub.0.RDB1.conv1.1.running_mean`"), "{message}");
}

#[test]
fn a_network_of_another_kind_gets_the_list_of_what_is_known() {
    let mut classifier: Tensors = vec![("conv1.weight".into(), vec![8, 3, 7, 7]), ("fc.weight".into(), vec![10, 8])];
    for part in ["weight", "bias", "running_mean", "running_var"] {
        classifier.push((format!("bn1.{part}"), vec![8]));
        classifier.push((format!("layer1.0.bn1.{part}"), vec![8]));
    }
    let message = refusal(&classifier);
    assert!(message.contains("`bn1.bias`"), "{message}");
    for architecture in architectures() {
        assert!(message.contains(architecture), "{architecture} is not in: {message}");
    }
}

#[test]
fn a_file_without_tensors_says_so() {
    assert!(refusal(&vec![]).contains("no tensors"));
}

#[test]
fn any_prefix_that_all_tensors_share_is_passed_over() {
    for prefix in ["net_g.", "model.", "G_A.", "wrapped.network.", "model.module."] {
        for name in ["rrdbnet-x4", "dncnn", "resnet-batch", "unet-batch", "nafnet"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/models/{name}.safetensors"));
            let bytes = std::fs::read(path).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let tensors = file.tensors().into_iter().map(|(name, view)| (format!("{prefix}{name}"), view));
            let bytes = serialize(tensors, None).unwrap();
            let plain = Model::load("x", Weights::from_bytes(&bytes[..]).unwrap());
            assert!(plain.is_ok(), "{prefix}{name}: {}", plain.unwrap_err());
        }
    }
    // What is wrong inside is still said in the words of the closest architecture.
    let mut tensors = golden("rrdbnet-x4");
    tensors.retain(|(tensor, _)| tensor != "conv_hr.weight");
    tensors.iter_mut().for_each(|(tensor, _)| tensor.insert_str(0, "inner."));
    let message = refusal(&tensors);
    assert!(line(&message, "RRDBNet").contains("conv_hr.weight"), "{message}");
}
