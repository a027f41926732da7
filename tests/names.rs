//! Layer kind, bias and depth from tensors' names, beyond the names of the golden cases.

mod common;

use common::handle::{Handle, Spec, param_group};
use common::tensor::float_bits;
use common::toy::{Toy, small_options};
use metaadamw::ffi::*;

fn groups_of(specs: &[Spec]) -> Vec<String> {
    let mut handle = Handle::new(&small_options()).expect("the options are good");
    handle.add(&param_group(), specs).expect("the tensors are good");
    handle.prepare().expect("all is registered");
    let name = |i| handle.group_name(handle.tensor_group(i).expect("a tensor")).expect("a group");
    (0..specs.len()).map(name).collect()
}

#[test]
fn a_layers_kind_is_the_first_that_its_name_matches_or_else_what_the_host_says() {
    let cases = [
        ("tok_EMBED.w", MAW_LAYER_UNKNOWN, "embedding"),
        ("attn.embedding", MAW_LAYER_LINEAR, "embedding"),
        ("mlp.self_Attention.w", MAW_LAYER_UNKNOWN, "attention"),
        ("attn_norm.w", MAW_LAYER_LAYERNORM, "attention"),
        ("FFN.norm.w", MAW_LAYER_UNKNOWN, "ffn"),
        ("gMLP", MAW_LAYER_EMBEDDING, "ffn"),
        ("feed_forward", MAW_LAYER_UNKNOWN, "ffn"),
        ("feedforward", MAW_LAYER_UNKNOWN, "other"),
        ("BatchNorm", MAW_LAYER_LINEAR, "layernorm"),
        ("fc", MAW_LAYER_LINEAR, "linear"),
        ("table", MAW_LAYER_EMBEDDING, "embedding"),
        ("qkv", MAW_LAYER_ATTENTION, "attention"),
        ("ln_f", MAW_LAYER_LAYERNORM, "layernorm"),
        ("fc2", MAW_LAYER_UNKNOWN, "other"),
    ];
    let specs: Vec<Spec> =
        cases.iter().map(|(name, kind, _)| Spec::new(name, &[2, 2], MAW_FLOAT32).of_kind(*kind)).collect();
    let expected: Vec<String> = cases.iter().map(|(.., kind)| format!("{kind}.middle.weight")).collect();
    assert_eq!(groups_of(&specs), expected);
}

#[test]
fn a_bias_has_one_dimension_or_a_name_that_ends_so() {
    let cases: [(&str, &[u64], &str); 6] = [
        ("a", &[3], "bias"),
        ("b", &[3, 1], "weight"),
        ("scalar", &[], "weight"),
        ("rel_bias", &[3, 3], "bias"),
        ("bias.weight", &[3, 3], "weight"),
        ("scalar.bias", &[], "bias"),
    ];
    let specs: Vec<Spec> = cases.iter().map(|(name, shape, _)| Spec::new(name, shape, MAW_FLOAT32)).collect();
    let expected: Vec<String> = cases.iter().map(|(.., role)| format!("other.middle.{role}")).collect();
    assert_eq!(groups_of(&specs), expected);
}

#[test]
fn depth_buckets_are_thirds_of_the_largest_layer_number() {
    for top in 0..=9_u64 {
        let specs: Vec<Spec> =
            (0..=top).map(|layer| Spec::new(&format!("h.{layer}.w"), &[2, 2], MAW_FLOAT32)).collect();
        let bucket = |layer: u64| match layer as f64 {
            _ if top <= 1 => "middle",
            layer if layer < top as f64 / 3.0 => "shallow",
            layer if layer > 2.0 * top as f64 / 3.0 => "deep",
            _ => "middle",
        };
        let expected: Vec<String> = (0..=top).map(|layer| format!("other.{}.weight", bucket(layer))).collect();
        assert_eq!(groups_of(&specs), expected, "top {top}");
    }
}

/// The depth of each tensor in the `enhanced` features, each tensor in a group of its own.
fn depths_of(names: &[&str]) -> Vec<f64> {
    const DEPTH_COLUMN: usize = 8;
    let specs: Vec<Spec> = names.iter().map(|name| Spec::new(name, &[2], MAW_FLOAT32).in_group(name)).collect();
    let features = MAW_FEATURES_ENHANCED;
    let options =
        maw_options { feature_version: features, grouping: MAW_GROUPING_CUSTOM, attn_heads: 1, ..small_options() };
    let toy = Toy::new(specs, 2);
    let (mut handle, mut params) = (toy.handle(&options), toy.start.clone());
    toy.train(&mut handle, &mut params, 0, 1);
    let dim = handle.feature_dim().expect("prepared");
    let features = handle.features().expect("a step was made");
    features.iter().skip(DEPTH_COLUMN).step_by(dim).copied().collect()
}

#[test]
fn a_layers_number_is_the_first_between_dots_or_else_the_last_part() {
    let cases = [
        ("top.16", 16),
        ("h.4.mlp.7.w", 4),
        ("h.4.8", 4),
        ("2.5.w", 5),
        ("2.w.6", 6),
        ("h.03.w", 3),
        ("h.1a.12.w", 12),
        ("h.x2.w.9", 9),
        // No number: it starts the name, has other characters around it, or is not made of digits alone.
        ("8.weight", 0),
        ("8", 0),
        ("h.w9", 0),
        ("h.-3.w", 0),
        ("h.+3.w", 0),
        ("h. 3.w", 0),
        ("h.3_4.w", 0),
        ("h..w", 0),
    ];
    let expected: Vec<f64> = cases.iter().map(|(_, layer)| f64::from(*layer) / 16.0).collect();
    let got = depths_of(&cases.map(|(name, _)| name));
    assert_eq!(float_bits(&got), float_bits(&expected), "{got:?}");
}

#[test]
fn depth_is_zero_where_the_largest_layer_number_is_zero() {
    assert_eq!(depths_of(&["h.0.w", "h.0.b", "w"]), [0.0; 3]);
}
