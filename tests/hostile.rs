//! A damaged or malicious file: an error that names the cause, nothing changed, no panic, and no more memory than the
//! file's own size and what the optimizer itself needs.
//!
//! The last group is the safetensors project's list of attacks and ours, each with the status that it must have.

mod common;

use common::checkpoint::{Checkpoint, checksummed, crc32, file, split};
use common::handle::{Handle, Spec, param_group};
use common::tensor::Tensor;
use common::toy::{Toy, small_options};
use metaadamw::ffi::*;
use metaadamw::reserve::watch::{self, Event};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::path::Path;

/* --------------------------------------------------------------- counting ---- */

/// Of this thread.
#[derive(Clone, Copy, Default)]
struct Count {
    live: usize,
    peak: usize,
    largest: usize,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { live: 0, peak: 0, largest: 0 }) };
}

fn took(size: usize) {
    let _ = COUNT.try_with(|count| {
        let Count { live, peak, largest } = count.get();
        let live = live.wrapping_add(size);
        count.set(Count { live, peak: peak.max(live), largest: largest.max(size) });
    });
}

fn gave(size: usize) {
    let _ = COUNT.try_with(|count| {
        let now = count.get();
        count.set(Count { live: now.live.wrapping_sub(size), ..now });
    });
}

/// Sees what the library's allocator, which is this program's, is asked for.
fn count(event: Event) -> bool {
    match event {
        Event::Allocated(size) => took(size),
        Event::Moved(old, new) => {
            // Old and new may be there at once.
            took(new);
            gave(old);
        }
        Event::Freed(size) => gave(size),
        // Nothing in a reserve is touched as long as there is memory.
        Event::Reserve(_) | Event::Returned { .. } => {}
    }
    true
}

/// The largest allocation, and the peak, beyond what was allocated before.
fn counted<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    const START: usize = 1 << 40;
    watch::set(count);
    COUNT.set(Count { live: START, peak: START, largest: 0 });
    let result = work();
    let Count { peak, largest, .. } = COUNT.get();
    (result, largest, peak - START)
}

/* ------------------------------------------------------------------ model ---- */

/// A small optimizer whose file has every kind of content.
fn options() -> maw_options {
    maw_options {
        semantics: MAW_REFERENCE,
        feature_version: MAW_FEATURES_ENHANCED,
        use_feature_gating: 1,
        group_embed_dim: 1,
        attn_heads: 1,
        attn_layers: 1,
        attn_hidden_dim: 1,
        threads: 1,
        ..small_options()
    }
}

fn trained() -> Handle {
    let specs = [Spec::new("w", &[2, 2], MAW_FLOAT32), Spec::new("b", &[2], MAW_FLOAT64)];
    let mut handle = Handle::new(&options()).expect("the options are good");
    handle.add(&param_group(), &specs).expect("good tensors");
    let mut params = [Tensor::new(MAW_FLOAT32, &[0.5; 4]), Tensor::new(MAW_FLOAT64, &[0.5; 2])];
    let grads = [Some(Tensor::new(MAW_FLOAT32, &[0.1, 0.2, -0.1, 0.0])), Some(Tensor::new(MAW_FLOAT64, &[0.1, -0.3]))];
    for _ in 0..3 {
        handle.step(&mut params, &grads).expect("a step");
    }
    handle
}

/// What the optimizer itself needs while it loads.
const OWN: usize = 96 << 10;

struct Victim {
    handle: Handle,
    before: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let mut handle = trained();
        let before = handle.save_bytes(0).expect("saved");
        Self { handle, before }
    }

    /// Loads; it must fail, change nothing and take no more memory than it may.
    fn refuses(&mut self, what: &str, bytes: &[u8], flags: u32) -> (i32, String) {
        let (outcome, largest, peak) = counted(|| self.handle.load_bytes(bytes, flags));
        let failure = outcome.err().unwrap_or_else(|| panic!("{what} was loaded"));
        assert!(failure.status != MAW_PANIC, "{what}: {failure:?}");
        assert!(failure.message.len() < 2500, "{what}: an error is read by people: {}", failure.message.len());
        // In part, the lists of a file are read whole, not only as much of them as the optimizer has.
        let (alone, together) = if flags & MAW_LOAD_PARTIAL == 0 { (1, 2) } else { (10, 20) };
        assert!(
            largest <= alone * bytes.len() + OWN,
            "{what}: an allocation of {largest} bytes for {} of file",
            bytes.len()
        );
        assert!(peak <= together * bytes.len() + 2 * OWN, "{what}: {peak} bytes for {} of file", bytes.len());
        assert_eq!(self.handle.save_bytes(0).expect("saved"), self.before, "{what}: {failure:?} changed something");
        (failure.status, failure.message)
    }
}

#[test]
fn the_file_itself_is_loaded_in_little_memory() {
    let Victim { mut handle, before } = Victim::new();
    let (outcome, largest, peak) = counted(|| handle.load_bytes(&before, 0));
    outcome.expect("it fits");
    println!("{} bytes of file: largest allocation {largest}, peak {peak}", before.len());
    assert!(largest <= before.len() && peak <= before.len() + 2 * OWN);
}

#[test]
fn every_truncation_is_detected() {
    let mut victim = Victim::new();
    let whole = victim.before.clone();
    for length in 0..whole.len() {
        for flags in [0, MAW_ATTENTION_ONLY, MAW_LOAD_PARTIAL] {
            let (status, message) = victim.refuses(&format!("the first {length} bytes"), &whole[..length], flags);
            assert_eq!(status, MAW_CORRUPT, "{length}: {message}");
        }
    }
}

#[test]
fn every_flipped_bit_and_every_flipped_byte_is_detected() {
    let mut victim = Victim::new();
    let mut flipped = victim.before.clone();
    let (mut by_status, mut as_checksum) = (std::collections::BTreeMap::new(), 0);
    for at in 0..flipped.len() {
        for mask in [1_u8, 2, 4, 8, 16, 32, 64, 128, 255] {
            flipped[at] ^= mask;
            let flags = [0, MAW_LOAD_FILE_WINS, MAW_ATTENTION_ONLY, MAW_LOAD_PARTIAL][at % 4];
            let (status, message) = victim.refuses(&format!("byte {at} with {mask:#x} flipped"), &flipped, flags);
            // Another digit in format_version is another version, checksum or not.
            let version = status == MAW_UNSUPPORTED && message.contains("format version");
            assert!(status == MAW_CORRUPT || version, "byte {at}, {mask:#x}: {status} {message}");
            *by_status.entry(status).or_insert(0) += 1;
            as_checksum += usize::from(message.contains("checksum does not match"));
            flipped[at] ^= mask;
        }
    }
    println!("{by_status:?}, {as_checksum} found by the checksum");
    assert_eq!(flipped, victim.before);
}

/* ---------------------------------------------------------------- attacks ---- */

/// A file whose header is this text, with `data` bytes behind it.
fn headed(header: &str, data: usize) -> Vec<u8> {
    file(header.as_bytes(), &vec![0; data.max(4)])
}

/// Our own header with other tensors in it.
fn with_tensors(tensors: &str, data: usize) -> Vec<u8> {
    let saved = trained().save_bytes(0).expect("saved");
    let (header, _) = split(&saved);
    headed(&format!(r#"{{"__metadata__":{},{tensors}}}"#, header["__metadata__"]), data)
}

fn checksum_at(offset: usize) -> String {
    format!(r#""checksum":{{"dtype":"U32","shape":[1],"data_offsets":[{offset},{}]}}"#, offset + 4)
}

fn tensor(name: &str, dtype: &str, shape: &str, from: &str, to: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{from},{to}]}}"#)
}

#[test]
fn malformed_containers_are_refused() {
    let mut victim = Victim::new();
    let deep = |n: usize| format!(r#"{{"a":{}"#, "[".repeat(n));
    let two = |a: String, b: String, end: usize| with_tensors(&format!("{a},{b},{}", checksum_at(end)), end + 4);
    let one = |a: String, end: usize| with_tensors(&format!("{a},{}", checksum_at(end)), end + 4);
    let header = |text: &str| headed(text, 4);
    let length = |n: u64, rest: usize| [&n.to_le_bytes()[..], &vec![b' '; rest]].concat();
    let twice = tensor("a", "F32", "1", "0", "4");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("an empty file", vec![], "it has 0 bytes"),
        ("seven bytes", vec![0; 7], "it has 7 bytes"),
        ("a header of no bytes", length(0, 8), "does not begin with '{'"),
        ("a header of 2^64 - 1 bytes", length(u64::MAX, 100), "its header claims 18446744073709551615 bytes"),
        ("a header of 2^63 bytes", length(1 << 63, 100), "its header claims"),
        ("a header above the limit", length(100_000_001, 100), "its header claims"),
        ("a header one byte longer than the file", length(101, 100), "its header claims 101 bytes"),
        ("a header that is not UTF-8", file(b"{\"\xff\":1}", &[0; 4]), "not UTF-8"),
        ("a header cut inside a letter", file(b"{\"\xc3", &[0; 4]), "not UTF-8"),
        ("an array", header("[]"), "does not begin with '{'"),
        ("null", header("null"), "does not begin with '{'"),
        ("a number", header("1"), "does not begin with '{'"),
        ("space before the object", header(" {}"), "does not begin with '{'"),
        ("half an object", header(r#"{"a":"#), "its header: EOF"),
        ("text behind the object", header(r#"{"__metadata__":{}} x"#), "its header: trailing characters"),
        ("two objects", header("{}{}"), "its header: trailing characters"),
        ("deep arrays", header(&deep(100_000)), "its header: "),
        ("deep objects", header(&r#"{"a":"#.repeat(100_000)), "its header: "),
        ("deep metadata", header(&format!(r#"{{"__metadata__":{}"#, r#"{"a":"#.repeat(100_000))), "its header: "),
        ("deep dtype", header(&format!(r#"{{"a":{{"dtype":{}"#, "[".repeat(100_000))), "its header: "),
        ("no metadata", header("{}"), "not a checkpoint"),
        ("metadata of others", header(r#"{"__metadata__":{"format":"pt"}}"#), "not a checkpoint"),
        ("metadata that is no object", header(r#"{"__metadata__":[]}"#), "its header: "),
        ("metadata that is null", header(r#"{"__metadata__":null}"#), "its header: "),
        ("a description that is no text", header(r#"{"__metadata__":{"metaadamw":{}}}"#), "its header: "),
        ("more metadata", header(r#"{"__metadata__":{"metaadamw":"{}","a":"b"}}"#), "it has metadata beside"),
        ("metadata twice", header(r#"{"__metadata__":{},"__metadata__":{}}"#), "twice"),
        ("a description twice", header(r#"{"__metadata__":{"metaadamw":"","metaadamw":""}}"#), "twice"),
        ("a name twice", two(twice.clone(), twice.clone(), 4), "names 'a' twice"),
        ("a name twice, escaped", two(twice.clone(), twice.replace("\"a\"", r#""\u0061""#), 4), "names 'a' twice"),
        (
            "overlapping ranges",
            two(tensor("a", "F32", "2", "0", "8"), tensor("b", "F32", "2", "4", "12"), 12),
            "expected from 8 on",
        ),
        ("equal ranges", two(twice.clone(), tensor("b", "F32", "1", "0", "4"), 4), "expected from 4 on"),
        ("a hole", two(twice.clone(), tensor("b", "F32", "1", "8", "12"), 12), "expected from 4 on"),
        ("a hole at the start", one(tensor("a", "F32", "1", "4", "8"), 8), "expected from 0 on"),
        ("a hole before the end", one(twice.clone(), 8), "expected from 4 on"),
        ("bytes behind the data", with_tensors(&checksum_at(0), 100), "describes 4 bytes of data, the file has 100"),
        ("data behind the end", one(tensor("a", "F32", "9", "0", "36"), 0), "expected from"),
        ("a range backwards", one(tensor("a", "F32", "1", "4", "0"), 4), "is at 4 to 0"),
        (
            "offsets of 2^64 - 1",
            one(tensor("a", "U8", "1", "18446744073709551614", "18446744073709551615"), 4),
            "expected",
        ),
        ("offsets beyond 64 bits", one(tensor("a", "U8", "1", "0", "18446744073709551616"), 4), "its header: "),
        ("negative offsets", one(tensor("a", "U8", "1", "-1", "0"), 4), "its header: "),
        ("offsets with a point", one(tensor("a", "F32", "1", "0.0", "4.0"), 4), "its header: "),
        ("three offsets", one(tensor("a", "F32", "1", "0", "4,4"), 4), "its header: "),
        ("one offset", one(twice.replace("[0,4]", "[0]"), 4), "its header: "),
        ("a shape that overflows", one(tensor("a", "U8", "4294967296,4294967296,2", "0", "0"), 0), "is not a U8"),
        (
            "a shape that overflows in bytes",
            one(tensor("a", "F64", "2305843009213693952", "0", "0"), 0),
            "is not a F64",
        ),
        (
            "a shape that overflows before its 0",
            one(tensor("a", "U8", "18446744073709551615,3,0", "0", "0"), 0),
            "is not",
        ),
        ("a negative shape", one(tensor("a", "U8", "-1", "0", "4"), 4), "its header: "),
        ("65 dimensions", one(tensor("a", "U8", &["1"; 65].join(","), "0", "1"), 1), "65 dimensions"),
        (
            "a million dimensions",
            one(tensor("a", "U8", "1,".repeat(1 << 20).trim_end_matches(','), "0", "1"), 1),
            "dimensions",
        ),
        ("a shape of other size", one(tensor("a", "F32", "3", "0", "16"), 16), "has 16 bytes of data, which is not"),
        ("half a byte", one(tensor("a", "F4", "1", "0", "1"), 1), "is not a F4"),
        ("an unknown dtype", one(tensor("a", "F99", "1", "0", "4"), 4), "unknown variant"),
        ("no dtype", one(twice.replace(r#""dtype":"F32","#, ""), 4), "missing field `dtype`"),
        (
            "a dtype twice",
            one(twice.replace(r#""dtype":"F32","#, r#""dtype":"F32","dtype":"F32","#), 4),
            "duplicate field",
        ),
        ("an unknown field", one(twice.replace("{", r#"{"x":1,"#), 4), "unknown field"),
        ("a tensor that is no object", with_tensors(r#""a":1"#, 4), "its header: "),
        ("no tensors", with_tensors(r#""a":{}"#, 4), "its header: "),
        ("no checksum", with_tensors(&tensor("a", "F32", "1", "0", "4"), 4), "its last tensor is not 'checksum'"),
        (
            "the checksum first",
            with_tensors(&format!("{},{}", checksum_at(0), tensor("a", "F32", "1", "4", "8")), 8),
            "its last tensor is not",
        ),
        (
            "a checksum of other kind",
            with_tensors(&tensor("checksum", "I32", "1", "0", "4"), 4),
            "its last tensor is not",
        ),
        ("a checksum without dimensions", with_tensors(&tensor("checksum", "U32", "", "0", "4"), 4), "its last tensor"),
    ];
    for (what, bytes, text) in cases {
        for flags in [0, MAW_ATTENTION_ONLY, MAW_LOAD_FILE_WINS, MAW_LOAD_PARTIAL] {
            let (status, message) = victim.refuses(what, &bytes, flags);
            assert_eq!(status, MAW_CORRUPT, "{what}: {message}");
            assert!(message.contains(text), "{what}: {message}");
        }
    }
}

#[test]
fn other_safetensors_files_are_refused() {
    let data = [1.0_f32, 2.0].map(f32::to_le_bytes).concat();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).expect("a view");
    let bytes = safetensors::serialize([("weight", view)], None).expect("a file");
    let (status, message) = Victim::new().refuses("a model's weights", &bytes, 0);
    assert_eq!(status, MAW_CORRUPT);
    assert!(message.contains("not a checkpoint"), "{message}");
}

#[test]
fn huge_counts_take_no_more_memory_than_the_file() {
    let mut victim = Victim::new();
    let saved = victim.before.clone();
    let many = |name: &dyn Fn(usize) -> String, dtype: &str| {
        let tensors: Vec<String> = (0..100_000).map(|i| tensor(&name(i), dtype, "0", "0", "0")).collect();
        with_tensors(&format!("{},{}", tensors.join(","), checksum_at(0)), 4)
    };
    let described = |change: &dyn Fn(&mut Value)| {
        let checkpoint = Checkpoint::parse(&saved);
        checkpoint.with(|description| change(description)).bytes()
    };
    let record = json!({ "name": "w", "shape": [], "dtype": "f32", "param_group": 0, "modulation_group": "w" });
    let huge: [(&str, Vec<u8>); 10] = [
        ("100,000 tensors", many(&|i| i.to_string(), "F32")),
        ("100,000 tensors that look like ours", many(&|i| format!("exp_avg.{i}"), "F32")),
        ("100,000 names like the attention module's", many(&|i| format!("attention.{i}"), "F64")),
        ("a million groups", described(&|d| d["groups"] = json!(vec!["a"; 1 << 20]))),
        ("100,000 descriptions", described(&|d| d["tensors"] = json!(vec![record.clone(); 100_000]))),
        ("a million lengths", described(&|d| d["tensors"][0]["shape"] = json!(vec![1; 1 << 20]))),
        (
            "100,000 options",
            described(&|d| {
                d["options"] =
                    (0..100_000).map(|i| (i.to_string(), json!(0))).collect::<serde_json::Map<_, _>>().into();
            }),
        ),
        ("a long option", described(&|d| d["options"]["huw_kinds"] = json!(vec!["regression"; 1 << 20]))),
        ("a long word", described(&|d| d["options"]["semantics"] = "x".repeat(1 << 20).into())),
        ("a long version", described(&|d| d["library_version"] = "x".repeat(1 << 20).into())),
    ];
    for (what, bytes) in huge {
        for flags in [0, MAW_ATTENTION_ONLY, MAW_LOAD_FILE_WINS, MAW_LOAD_PARTIAL] {
            if what == "a long version" {
                // A valid checkpoint of a library with a strange version.
                let (outcome, largest, _) = counted(|| victim.handle.load_bytes(&bytes, flags));
                outcome.expect("it fits");
                assert!(largest <= bytes.len(), "{largest}");
                continue;
            }
            if flags == MAW_ATTENTION_ONLY && victim.handle.load_bytes(&bytes, flags).is_ok() {
                victim.before = victim.handle.save_bytes(0).expect("saved");
                continue; // what is not needed is not checked
            }
            let (status, message) = victim.refuses(what, &bytes, flags);
            assert!([MAW_CORRUPT, MAW_MISMATCH].contains(&status), "{what}: {status} {message}");
        }
    }
}

#[test]
fn large_unexpected_tensors_are_not_read_into_memory() {
    let mut victim = Victim::new();
    let checkpoint = Checkpoint::parse(&victim.before);
    for name in ["attention.log_vars", "attention.more", "step.w", "last.features", "options.meta_lr", "else"] {
        let mut large = checkpoint.clone();
        large.parts.retain(|part| part.name != name);
        let bytes = vec![0; 8 << 20];
        large.parts.push(common::checkpoint::Part {
            name: name.into(),
            dtype: "F64".into(),
            shape: vec![1 << 20],
            bytes,
        });
        let file = large.bytes();
        let (outcome, _, peak) = counted(|| victim.handle.load_bytes(&file, MAW_LOAD_FILE_WINS));
        assert_eq!(outcome.expect_err("it does not fit").status, MAW_MISMATCH, "{name}");
        assert!(peak <= 1 << 20, "{name}: {peak} bytes");
    }
    assert_eq!(victim.handle.save_bytes(0).expect("saved"), victim.before);
}

#[test]
fn other_versions_of_the_format_are_named() {
    let mut victim = Victim::new();
    let checkpoint = Checkpoint::parse(&victim.before);
    for version in [0_u64, 2, 10, u64::MAX] {
        let file = checkpoint.with(|d| *d = json!({ "format_version": version, "anything": [1, 2, { "else": null }] }));
        let (status, message) = victim.refuses("another version", &file.bytes(), 0);
        assert_eq!(status, MAW_UNSUPPORTED, "{message}");
        assert!(message.contains(&format!("format version {version} (this library reads 1)")), "{message}");
    }
    for version in [json!("1"), json!(1.0), json!(-1), json!(null), json!([1])] {
        let (status, message) =
            victim.refuses("a strange version", &checkpoint.with(|d| d["format_version"] = version).bytes(), 0);
        assert_eq!(status, MAW_CORRUPT, "{message}");
    }
}

fn object(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    value.as_object_mut().expect("an object")
}

#[test]
fn invalid_descriptions_with_a_valid_checksum_are_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 30] = [
        ("no object", |d| *d = json!([]), "its description"),
        ("a field less", |d| drop(object(d).remove("groups")), "missing field `groups`"),
        ("a field more", |d| d["more"] = json!(1), "unknown field 'more'"),
        ("unknown contents", |d| d["contents"] = json!("all"), "unknown variant"),
        ("steps of 2^64 - 1", |d| d["counters"]["steps"] = json!(u64::MAX), "expected at most 2^53 - 1"),
        ("steps below 0", |d| d["counters"]["steps"] = json!(-1), "its description"),
        ("steps with a point", |d| d["counters"]["steps"] = json!(1.5), "its description"),
        ("fewer steps than a tensor has", |d| d["counters"]["steps"] = json!(2), "is at step 3 of 2"),
        (
            "skipped steps of 2^64 - 1",
            |d| d["counters"]["skipped_steps"][4] = json!(u64::MAX),
            "expected at most 2^53 - 1",
        ),
        ("four reasons", |d| d["counters"]["skipped_steps"] = json!([0, 0, 0, 0]), "its description"),
        ("six reasons", |d| d["counters"]["skipped_steps"] = json!([0, 0, 0, 0, 0, 0]), "its description"),
        ("meta-updates of 2^64 - 1", |d| d["counters"]["meta_updates"] = json!(u64::MAX), "expected at most 2^53 - 1"),
        (
            "a meta-update in the future",
            |d| d["counters"]["meta_done_at"] = json!(4),
            "meta_done_at is 4, expected at most step, 3",
        ),
        ("a meta-update at no number", |d| d["counters"]["meta_done_at"] = json!("3"), "its description"),
        ("a counter more", |d| d["counters"]["more"] = json!(1), "unknown field"),
        ("an interval of 0", |d| d["options"]["meta_interval"] = json!(0), "meta_interval is 0"),
        ("a seed below 0", |d| d["options"]["seed"] = json!(-1), "its description"),
        ("an option of an unknown word", |d| d["options"]["objective"] = json!("win"), "unknown variant"),
        ("an option of no kind", |d| d["options"]["objective"] = json!({ "a": 1 }), "its description"),
        ("an option that is null", |d| d["options"]["objective"] = json!(null), "its description"),
        ("an option that is a float", |d| d["options"]["seed"] = json!(1e300), "its description"),
        ("an option more", |d| d["options"]["more"] = json!(1), "unknown field `more`"),
        ("an option less", |d| drop(object(&mut d["options"]).remove("objective")), "missing field"),
        ("an option of the machine", |d| d["options"]["threads"] = json!(7), "option threads"),
        ("a float option as a word", |d| d["options"]["meta_lr"] = json!(1), "option meta_lr is there twice"),
        ("two kinds", |d| d["options"]["huw_kinds"] = json!(["regression", "regression"]), "invalid length"),
        ("a tensor's dtype", |d| d["tensors"][0]["dtype"] = json!("f8"), "unknown variant"),
        ("a tensor's field more", |d| d["tensors"][0]["more"] = json!(1), "unknown field"),
        ("a shape below 0", |d| d["tensors"][0]["shape"] = json!([-2, -2]), "its description"),
        ("65 dimensions", |d| d["tensors"][0]["shape"] = json!(vec![1; 65]), "65 dimensions"),
    ];
    let mut victim = Victim::new();
    let checkpoint = Checkpoint::parse(&victim.before);
    for (what, change, text) in changes {
        let bytes = checkpoint.with(change).bytes();
        let (status, message) = victim.refuses(what, &bytes, MAW_LOAD_FILE_WINS);
        assert_eq!(status, MAW_CORRUPT, "{what}: {message}");
        assert!(message.contains(text), "{what}: {message}");
    }
    let differences: [(&str, Change, &str); 9] = [
        (
            "another structure",
            |d| d["options"]["semantics"] = json!("paper"),
            "options.semantics: \"paper\" in the file",
        ),
        ("no structure", |d| drop(object(&mut d["options"]).remove("semantics")), "options.semantics: missing"),
        ("huge structure", |d| d["options"]["attn_layers"] = json!(u64::MAX), "options.attn_layers"),
        (
            "a tensor twice",
            |d| d["tensors"] = json!([d["tensors"][0], d["tensors"][0]]),
            "tensor 'b' is not in the file",
        ),
        (
            "a tensor three times",
            |d| {
                let w = d["tensors"][0].clone();
                d["tensors"].as_array_mut().expect("an array").push(w);
            },
            "3 tensors",
        ),
        ("no tensors", |d| d["tensors"] = json!([]), "tensor 'w' is not in the file"),
        ("a group twice", |d| d["groups"] = json!([d["groups"][0], d["groups"][0]]), "modulation groups in the file"),
        ("no groups", |d| d["groups"] = json!([]), "modulation groups in the file"),
        (
            "another param group",
            |d| d["tensors"][1]["param_group"] = json!(u64::MAX),
            "param group 18446744073709551615",
        ),
    ];
    for (what, change, text) in differences {
        let (status, message) = victim.refuses(what, &checkpoint.with(change).bytes(), MAW_LOAD_FILE_WINS);
        assert_eq!(status, MAW_MISMATCH, "{what}: {message}");
        assert!(message.contains(text), "{what}: {message}");
    }
}

#[test]
fn invalid_values_with_a_valid_checksum_are_refused() {
    let mut victim = Victim::new();
    let checkpoint = Checkpoint::parse(&victim.before);
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let floats: [(&str, usize, f64, &str); 24] = [
        ("options.meta_lr", 0, nan, "its option meta_lr is NaN"),
        ("options.meta_lr", 0, inf, "its option meta_lr is inf"),
        ("options.meta_lr", 0, -1.0, "meta_lr is -1"),
        ("options.alpha_range", 0, 2.5, "alpha_range is 2.5"),
        ("options.priorities", 2, nan, "its option priorities is NaN"),
        ("options.priorities", 1, -0.5, "priorities[1] is -0.5"),
        ("param_groups.lr", 0, nan, "its param group 0"),
        ("param_groups.lr", 0, -1.0, "its param group 0"),
        ("param_groups.beta1", 0, 1.0, "its param group 0"),
        ("param_groups.beta2", 0, nan, "its param group 0"),
        ("param_groups.eps", 0, 0.0, "its param group 0"),
        ("param_groups.weight_decay", 0, inf, "its param group 0"),
        ("attention.output_proj.weight", 3, nan, "its attention module is not finite"),
        ("attention.group_embeddings", 0, inf, "its attention module is not finite"),
        ("attention.log_vars", 2, -inf, "its attention module is not finite"),
        ("last.features", 0, nan, "last features or factors"),
        ("last.factors", 3, inf, "last features or factors"),
        ("exp_avg.b", 1, nan, "'exp_avg.b' has a value"),
        ("exp_avg.b", 0, -inf, "'exp_avg.b' has a value"),
        ("exp_avg_sq.b", 1, nan, "'exp_avg_sq.b' has a value"),
        ("exp_avg_sq.b", 1, inf, "'exp_avg_sq.b' has a value"),
        ("exp_avg_sq.b", 0, -1e-300, "'exp_avg_sq.b' has a value"),
        ("exp_avg.w", 0, nan, "'exp_avg.w' has a value"), // both of its float32 halves: 0 and NaN
        ("exp_avg_sq.w", 1, -1.0, "'exp_avg_sq.w' has a value"),
    ];
    for (name, index, value, text) in floats {
        let bytes = checkpoint.with_float(name, index, value).bytes();
        let (status, message) = victim.refuses(&format!("{name}[{index}] = {value}"), &bytes, MAW_LOAD_FILE_WINS);
        assert_eq!(status, MAW_CORRUPT, "{name}: {message}");
        assert!(message.contains(text), "{name}: {message}");
    }
    for step in [4, u64::MAX, 1 << 63] {
        let mut other = checkpoint.clone();
        other.part("step.w").bytes = step.to_le_bytes().to_vec();
        let (status, message) = victim.refuses("a step count", &other.bytes(), 0);
        assert_eq!(status, MAW_CORRUPT, "{message}");
        assert!(message.contains(&format!("tensor 'w' is at step {step} of 3")), "{message}");
    }
}

#[test]
fn unexpected_tensors_are_refused() {
    let mut victim = Victim::new();
    let checkpoint = Checkpoint::parse(&victim.before);
    let names: Vec<String> = checkpoint.parts.iter().map(|part| part.name.clone()).collect();
    for name in &names {
        let mut without = checkpoint.clone();
        without.parts.retain(|part| &part.name != name);
        let optional = name.starts_with("last_gradient.");
        if optional {
            trained().load_bytes(&without.bytes(), 0).expect("a tensor had no gradient");
            continue;
        }
        let (status, message) = victim.refuses(&format!("without {name}"), &without.bytes(), 0);
        assert!([MAW_MISMATCH, MAW_CORRUPT].contains(&status), "{name}: {message}");
        assert!(message.contains(name.as_str()) || name == "param_groups.lr", "{name}: {message}");

        let mut flat = checkpoint.clone();
        flat.part(name).shape.push(1);
        let (status, message) = victim.refuses(&format!("{name} of another shape"), &flat.bytes(), 0);
        assert_eq!(status, MAW_MISMATCH, "{name}: {message}");
        let mut other = checkpoint.clone();
        let part = other.part(name);
        part.dtype = if part.dtype == "F32" { "I32" } else { "I64" }.to_owned();
        let (status, message) = victim.refuses(&format!("{name} of another dtype"), &other.bytes(), 0);
        assert_eq!(status, MAW_MISMATCH, "{name}: {message}");
        assert!(message.contains(&format!("'{name}': I")), "{name}: {message}");
    }
    for name in ["last.more", "last_gradient.x", "exp_avg.x", "attention.x", "step.x", "options.x", "x"] {
        let mut more = checkpoint.clone();
        more.parts.push(common::checkpoint::Part {
            name: name.into(),
            dtype: "F64".into(),
            shape: vec![1],
            bytes: vec![0; 8],
        });
        let (status, message) = victim.refuses(name, &more.bytes(), 0);
        assert_eq!(status, MAW_MISMATCH, "{name}: {message}");
        assert!(message.contains(&format!("'{name}' is only in the file")), "{name}: {message}");
    }
    let mut half = checkpoint.clone();
    half.parts.retain(|part| part.name != "last.features");
    let (status, message) = victim.refuses("half of the last step", &half.bytes(), 0);
    assert_eq!(status, MAW_CORRUPT, "{message}");
}

#[test]
fn paths_that_are_not_files_are_refused() {
    let mut handle = trained();
    let before = handle.save_bytes(0).expect("saved");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile_places");
    let _ = fs::remove_dir_all(&folder); // it may not be there
    fs::create_dir_all(&folder).expect("the test folder can be written to");
    fs::write(folder.join("empty"), "").expect("it can be written");
    let pipe = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success());
    for (name, status, text) in [
        ("missing", MAW_IO, "No such file"),
        ("missing/run", MAW_IO, "No such file"),
        ("empty/run", MAW_IO, "Not a directory"),
        (".", MAW_IO, "it is not a regular file"),
        ("empty", MAW_CORRUPT, "it has 0 bytes"),
        ("pipe", MAW_IO, "it is not a regular file"),
    ] {
        if name == "pipe" && !made {
            continue;
        }
        let failure = handle.load_file(&folder.join(name), 0).expect_err("it is no checkpoint");
        assert_eq!(failure.status, status, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
        assert!(status == MAW_CORRUPT || failure.message.contains(&folder.display().to_string()), "{failure:?}");
    }
    assert_eq!(handle.save_bytes(0).expect("saved"), before);
}

#[test]
fn the_checksum_is_the_one_of_the_format_page() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    let saved = trained().save_bytes(0).expect("saved");
    assert_eq!(checksummed(saved.clone()), saved);
    let toy = Toy::small();
    let saved = toy.handle(&small_options()).save_bytes(MAW_ATTENTION_ONLY).expect("saved");
    assert_eq!(checksummed(saved.clone()), saved);
}
