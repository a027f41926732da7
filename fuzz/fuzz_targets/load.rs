//! Any bytes as a checkpoint: an error or a run that works, never a panic, and nothing changed by what is refused.
//!
//! Input: one byte of choices, then the file. The checksum is put right, or nothing behind it would ever be reached; one
//! choice puts the length of the header right as well.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metaadamw::checkpoint::{Contents, LoadOptions, OnConflict};
use metaadamw::model::dtype::DType;
use metaadamw::model::options::{FeatureVersion, Semantics};
use metaadamw::{Grads, Optimizer, Options, ParamGroup, Params, Slice, SliceMut, StepOptions, TensorSpec};
use safetensors::SafeTensors;

/// A model as small as one with everything can be.
fn optimizer() -> Optimizer {
    let options = Options {
        semantics: Semantics::Reference,
        feature_version: FeatureVersion::Enhanced,
        use_feature_gating: true,
        group_embed_dim: 1,
        attn_heads: 1,
        attn_layers: 1,
        attn_hidden_dim: 1,
        threads: 1,
        ..Options::default()
    };
    let spec = |name: &str, shape: &[u64], dtype| TensorSpec::new(name, shape, dtype).expect("a name");
    let mut optimizer = Optimizer::new(options).expect("valid options");
    let specs = vec![spec("w", &[2], DType::F32), spec("b", &[], DType::F64)];
    optimizer.add_param_group(ParamGroup::default(), specs).expect("valid tensors");
    optimizer.prepare().expect("all is registered");
    step(&mut optimizer);
    optimizer
}

fn step(optimizer: &mut Optimizer) {
    let (mut w, mut b) = (vec![0.5_f32, -0.5], vec![0.25_f64]);
    let (gw, gb) = (vec![0.1_f32, 0.0], vec![-0.1_f64]);
    let params = Params::new([SliceMut::F32(&mut w), SliceMut::F64(&mut b)].into_iter());
    let grads = Grads::new([Some(Slice::F32(&gw)), Some(Slice::F64(&gb))].into_iter());
    let options = StepOptions { params_changed: true, ..StepOptions::default() };
    optimizer.step(&params, &grads, &options).expect("skipped at worst");
}

fn with_right_checksum(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(at) = file.len().checked_sub(4) {
        let crc = crc32fast::hash(&file[..at]);
        file[at..].copy_from_slice(&crc.to_le_bytes());
    }
    file
}

/// The header ends with the last `}` that the file has before its data, as far as that can be guessed.
fn with_right_length(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(end) = file.windows(2).rposition(|pair| pair == b"}}" || pair == b"} ").filter(|end| *end >= 8) {
        file[..8].copy_from_slice(&(end as u64 + 2 - 8).to_le_bytes());
    }
    file
}

/// METAADAMW_SEEDS names a folder for files to start from.
fn write_seeds() {
    let Some(folder) = std::env::var_os("METAADAMW_SEEDS").map(std::path::PathBuf::from) else { return };
    let mut optimizer = optimizer();
    for (name, choice, contents) in
        [("run", 8, Contents::Run), ("run_exact", 0, Contents::Run), ("attention", 4, Contents::Attention)]
    {
        let file = optimizer.save_bytes(contents).expect("no meta-update is open");
        std::fs::write(folder.join(name), [&[choice], &file[..]].concat()).expect("the folder can be written to");
    }
}

fuzz_target!(init: write_seeds(), |input: &[u8]| {
    let Some((choice, file)) = input.split_first() else { return };
    let mut file = file.to_vec();
    if choice & 1 != 0 {
        file = with_right_length(file);
    }
    if choice & 2 == 0 {
        file = with_right_checksum(file);
    }
    let contents = if choice & 4 == 0 { Contents::Run } else { Contents::Attention };
    let winner = [OnConflict::Strict, OnConflict::File, OnConflict::Own, OnConflict::File][usize::from(choice >> 3 & 3)];

    let options = LoadOptions { on_conflict: winner, partial: choice & 32 != 0 };

    let mut optimizer = optimizer();
    let before = optimizer.save_bytes(Contents::Run).expect("no meta-update is open");
    if optimizer.load_bytes(&file, contents, options).is_err() {
        assert_eq!(optimizer.save_bytes(Contents::Run).expect("as before"), before, "a refused file changed something");
        return;
    }
    SafeTensors::deserialize(&file).expect("what we read, others can read");
    let after = optimizer.save_bytes(Contents::Run).expect("no meta-update is open");
    if contents == Contents::Run && winner != OnConflict::Own {
        let mut other = self::optimizer();
        other.load_bytes(&after, Contents::Run, OnConflict::File).expect("what was loaded can be saved and loaded");
        assert_eq!(other.save_bytes(Contents::Run).expect("no meta-update is open"), after);
    }
    optimizer.dump_state().expect("it can be dumped");
    step(&mut optimizer);
});
