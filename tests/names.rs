//! How tensors form fine-grained groups, and their depth: what the host says and what names say (docs/groups.md).

mod common;

use common::handle::{Handle, Spec, param_group};
use common::tensor::float_bits;
use common::toy::{Toy, small_options};
use metaadamw::ffi::*;
use proptest::prelude::*;

fn registered(options: &maw_options, specs: &[Spec]) -> Handle {
    let mut handle = Handle::new(options).expect("the options are good");
    handle.add(&param_group(), specs).expect("the tensors are good");
    handle
}

fn groups_in(semantics: i32, specs: &[Spec]) -> Vec<String> {
    let mut handle = registered(&maw_options { semantics, ..small_options() }, specs);
    handle.prepare().expect("all is registered");
    let name = |i| handle.group_name(handle.tensor_group(i).expect("a tensor")).expect("a group");
    (0..specs.len()).map(name).collect()
}

fn groups_of(specs: &[Spec]) -> Vec<String> {
    groups_in(MAW_PAPER, specs)
}

const KINDS: [(i32, &str); 7] = [
    (MAW_LAYER_LINEAR, "linear"),
    (MAW_LAYER_EMBEDDING, "embedding"),
    (MAW_LAYER_ATTENTION, "attention"),
    (MAW_LAYER_LAYERNORM, "layernorm"),
    (MAW_LAYER_CONVOLUTION, "convolution"),
    (MAW_LAYER_BATCHNORM, "batchnorm"),
    (MAW_LAYER_RECURRENT, "recurrent"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn in_paper_what_the_host_says_of_kind_and_layer_wins_over_any_name(
        tensors in prop::collection::vec(("[a-z.]{1,5}(embed|attn|mlp|norm|conv|[.]7[.])[a-z.0-9]{0,4}", 0..7_usize, 0..9_u32), 1..8)
    ) {
        let described: Vec<(String, i32, &str, u32)> = tensors
            .into_iter()
            .enumerate()
            .map(|(i, (name, kind, layer))| (format!("{name}{i}"), KINDS[kind].0, KINDS[kind].1, layer))
            .collect();
        let told: Vec<Spec> = described
            .iter()
            .map(|(name, kind, _, layer)| Spec::new(name, &[2, 2], MAW_FLOAT32).of_kind(*kind).of_layer(layer + 1))
            .collect();
        // The same in names that say the layer alone, with the kinds that the host says.
        let named: Vec<Spec> = described
            .iter()
            .enumerate()
            .map(|(i, (_, kind, _, layer))| Spec::new(&format!("w.{layer}.{i}"), &[2, 2], MAW_FLOAT32).of_kind(*kind))
            .collect();
        let groups = groups_of(&told);
        prop_assert_eq!(&groups, &groups_of(&named));
        for (group, (_, _, word, _)) in groups.iter().zip(&described) {
            prop_assert_eq!(group.split('.').next(), Some(*word));
        }
    }
}

#[test]
fn in_paper_the_host_says_a_layers_kind_and_the_name_only_where_it_does_not() {
    let mut cases = vec![
        ("layers.0.attn.norm.weight", MAW_LAYER_LAYERNORM, "layernorm"),
        ("attn.embedding", MAW_LAYER_LINEAR, "linear"),
        ("features.0.bnorm", MAW_LAYER_BATCHNORM, "batchnorm"),
        ("attn.norm.unsaid", MAW_LAYER_UNKNOWN, "attention"),
        ("conv1", MAW_LAYER_UNKNOWN, "other"),
    ];
    let names: Vec<String> = KINDS.iter().map(|(_, word)| format!("module.{word}")).collect();
    cases.extend(KINDS.iter().zip(&names).map(|((kind, word), name)| (name.as_str(), *kind, *word)));
    let specs: Vec<Spec> =
        cases.iter().map(|(name, kind, _)| Spec::new(name, &[2, 2], MAW_FLOAT32).of_kind(*kind)).collect();
    let expected: Vec<String> = cases.iter().map(|(.., kind)| format!("{kind}.middle.weight")).collect();
    assert_eq!(groups_of(&specs), expected);
}

#[test]
fn in_reference_a_layers_kind_is_the_first_that_its_name_matches_or_else_what_the_host_says() {
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
        ("conv", MAW_LAYER_CONVOLUTION, "convolution"),
        ("bn1", MAW_LAYER_BATCHNORM, "batchnorm"),
        ("norm1", MAW_LAYER_BATCHNORM, "layernorm"),
        ("lstm", MAW_LAYER_RECURRENT, "recurrent"),
    ];
    let spec = |(name, kind, _): &(&str, i32, &str)| Spec::new(name, &[2, 2], MAW_FLOAT32).of_kind(*kind);
    let specs: Vec<Spec> = cases.iter().map(spec).collect();
    let expected: Vec<String> = cases.iter().map(|(.., kind)| format!("{kind}.middle.weight")).collect();
    assert_eq!(groups_in(MAW_REFERENCE, &specs), expected);
    // Where the host says nothing, the semantics make no difference.
    let unsaid: Vec<Spec> = specs.into_iter().map(|spec| spec.of_kind(MAW_LAYER_UNKNOWN)).collect();
    assert_eq!(groups_of(&unsaid), groups_in(MAW_REFERENCE, &unsaid));
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
    depths(names.iter().map(|name| Spec::new(name, &[2], MAW_FLOAT32)))
}

fn depths(specs: impl Iterator<Item = Spec>) -> Vec<f64> {
    const DEPTH_COLUMN: usize = 8;
    let in_own_group = |spec: Spec| {
        let group = spec.name.clone();
        spec.in_group(&group)
    };
    let specs: Vec<Spec> = specs.map(in_own_group).collect();
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
fn a_layer_index_counts_as_its_number_in_the_name_would() {
    // A Sequential's modules: their names say nothing.
    let names = ["0.weight", "3.weight", "6.weight", "head.9"];
    let of_layer = |(i, name): (usize, &&str)| Spec::new(name, &[2, 2], MAW_FLOAT32).of_layer([1, 4, 7, 0][i]);
    let told: Vec<Spec> = names.iter().enumerate().map(of_layer).collect();
    assert_eq!(depths(told.iter().cloned()), [0.0, 3.0 / 9.0, 6.0 / 9.0, 1.0]);
    let buckets = ["shallow", "middle", "middle", "deep"].map(|bucket| format!("other.{bucket}.weight"));
    for semantics in [MAW_PAPER, MAW_REFERENCE] {
        assert_eq!(groups_in(semantics, &told), buckets);
    }
    // It wins over the name, also as the largest of the model.
    let moved = ["h.8.w", "h.1.w"].iter().zip([2, 0]);
    let moved = moved.map(|(name, index)| Spec::new(name, &[2], MAW_FLOAT32).of_layer(index));
    assert_eq!(depths(moved), [1.0, 1.0]);
    let most = Spec::new("most", &[2], MAW_FLOAT32).of_layer(1_000_000);
    assert_eq!(depths([most, Spec::new("h.1.w", &[2], MAW_FLOAT32)].into_iter()), [1.0, 1.0 / 999_999.0]);
}

/// What the log says at preparation.
fn told_at_preparation(options: &maw_options, specs: &[Spec]) -> Vec<(i32, String)> {
    let mut handle = registered(options, specs);
    let messages = handle.logged().expect("a log");
    handle.prepare().expect("all is registered");
    let messages = messages.lock().expect("no panic");
    messages.clone()
}

#[test]
fn the_log_tells_of_several_layers_without_a_number_where_depth_counts() {
    let fine = small_options();
    let by_param_group = maw_options { grouping: MAW_GROUPING_BY_PARAM_GROUP, ..fine };
    let enhanced = maw_options { feature_version: MAW_FEATURES_ENHANCED, ..by_param_group };
    let plain = maw_options { modulation: 0, ..fine };
    let weight = |name: &str| Spec::new(name, &[2, 2], MAW_FLOAT32);
    let sequential = ["0.weight", "2.weight", "4.weight"].map(weight);
    for options in [&fine, &enhanced] {
        let messages = told_at_preparation(options, &sequential);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(messages[0].0, MAW_LOG_INFO);
        assert!(messages[0].1.contains("the same depth") && messages[0].1.contains("layer_index"), "{messages:?}");
    }
    let numbered = ["0.weight", "2.weight", "layers.4.weight"].map(weight);
    let told = [weight("0.weight"), weight("2.weight").of_layer(1), weight("4.weight")];
    // Two weights and their biases: whatever their numbers, both were in the middle.
    let two = ["0.weight", "0.bias", "2.weight", "2.bias"].map(weight);
    for (options, specs) in
        [(&fine, &numbered[..]), (&fine, &told), (&fine, &two), (&by_param_group, &sequential), (&plain, &sequential)]
    {
        assert_eq!(told_at_preparation(options, specs), []);
    }
}

/// Layers as the host knows them.
fn attention_layer() -> Vec<Spec> {
    vec![
        Spec::new("layers.0.attn.weight", &[2, 2], MAW_FLOAT32).of_kind(MAW_LAYER_ATTENTION),
        Spec::new("layers.0.attn.norm.weight", &[2], MAW_FLOAT32).of_kind(MAW_LAYER_LAYERNORM),
        Spec::new("head", &[2, 2], MAW_FLOAT32).of_kind(MAW_LAYER_LINEAR),
    ]
}

fn saved(options: &maw_options, specs: &[Spec]) -> Vec<u8> {
    registered(options, specs).save_bytes(0).expect("saved")
}

#[test]
fn a_file_of_a_version_in_which_names_came_first_says_so_and_loads_without_the_kinds() {
    let options = small_options();
    // Without the kinds that a name overrode, these are the bytes that such a version wrote.
    let mut as_before = attention_layer();
    as_before[1].layer_kind = MAW_LAYER_UNKNOWN;
    let file = saved(&options, &as_before);
    let mut now = registered(&options, &attention_layer());
    let refused = now.load_bytes(&file, 0).expect_err("other groups");
    assert_eq!(refused.status, MAW_MISMATCH);
    let says = "it loads if no layer_kind is given for 'layers.0.attn.norm.weight'; ";
    assert!(refused.message.contains(says), "{}", refused.message);
    let group = "modulation group attention.middle.bias in the file, layernorm.middle.bias here";
    assert!(refused.message.contains(group), "{}", refused.message);
    registered(&options, &as_before).load_bytes(&file, 0).expect("it loads");
    // In reference nothing has changed.
    let reference = maw_options { semantics: MAW_REFERENCE, ..options };
    let file = saved(&reference, &as_before);
    registered(&reference, &attention_layer()).load_bytes(&file, 0).expect("it loads");
    // Groups that differ for another reason are not blamed on it.
    let mut other = attention_layer();
    other[2].layer_kind = MAW_LAYER_UNKNOWN;
    let file = saved(&options, &attention_layer());
    let refused = registered(&options, &other).load_bytes(&file, 0).expect_err("other groups");
    assert!(!refused.message.contains("it loads if"), "{}", refused.message);
}

#[test]
fn a_file_of_other_layers_is_refused_where_depth_is_a_feature() {
    let basic = maw_options { grouping: MAW_GROUPING_BY_PARAM_GROUP, ..small_options() };
    let enhanced = maw_options { feature_version: MAW_FEATURES_ENHANCED, ..basic };
    let weight = |name: &str, layer_index| Spec::new(name, &[2, 2], MAW_FLOAT32).of_layer(layer_index);
    let (named, told) = ([weight("h.0.w", 0), weight("h.3.w", 0)], [weight("h.0.w", 1), weight("h.3.w", 4)]);
    let moved = [weight("h.0.w", 0), weight("h.3.w", 9)];
    for (file, here) in [(&named, &told), (&told, &named), (&told, &told)] {
        registered(&enhanced, here).load_bytes(&saved(&enhanced, file), 0).expect("the same layers");
    }
    for (file, here, says) in
        [(&named, &moved, "layer 3 in the file, 8 here"), (&moved, &named, "layer 8 in the file, 3 here")]
    {
        let refused = registered(&enhanced, here).load_bytes(&saved(&enhanced, file), 0).expect_err("other layers");
        assert_eq!(refused.status, MAW_MISMATCH);
        assert!(refused.message.contains(&format!("tensor 'h.3.w': {says}")), "{}", refused.message);
        registered(&basic, here).load_bytes(&saved(&basic, file), 0).expect("depth is no feature");
    }
}

#[test]
fn the_dump_tells_kind_and_layer_of_each_tensor() {
    let specs = [
        Spec::new("h.2.attn.norm", &[2], MAW_FLOAT32).of_kind(MAW_LAYER_LAYERNORM),
        Spec::new("0.weight", &[2, 2], MAW_FLOAT32).of_layer(5),
        Spec::new("1.weight", &[2, 2], MAW_FLOAT32).of_kind(MAW_LAYER_CONVOLUTION),
    ];
    let dump = registered(&small_options(), &specs).dumped();
    let groups = dump["modulation_groups"].as_array().expect("groups");
    let tensor = |name: &str| {
        let mut all = groups.iter().flat_map(|group| group["tensors"].as_array().expect("tensors"));
        all.find(|tensor| tensor["name"] == name).expect("a tensor")
    };
    let told = |name: &str| (tensor(name)["layer_kind"].as_str(), tensor(name)["layer"].as_u64());
    assert_eq!(told("h.2.attn.norm"), (Some("layernorm"), Some(2)));
    assert_eq!(told("0.weight"), (Some("other"), Some(4)));
    assert_eq!(told("1.weight"), (Some("convolution"), None));
}

#[test]
fn depth_is_zero_where_the_largest_layer_number_is_zero() {
    assert_eq!(depths_of(&["h.0.w", "h.0.b", "w"]), [0.0; 3]);
}
