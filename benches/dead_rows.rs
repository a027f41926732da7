//! What a step costs when most rows of a tensor have had no gradient for long, as those of an embedding's unused words,
//! over what it costs when all have one: for every dtype, the moments still decaying and decayed.

mod common;

use common::{Model, even, median, optimizer, specs};
use metaadamw::model::dtype::{DType, Precision};
use metaadamw::{Options, ParamGroup};

const ROW: usize = 1024;
/// One row in so many has a gradient.
const LIVE: usize = 100;
/// With these betas the first moments are subnormal after 160 to 200 steps and would stay so, the second after 230 to 290.
const BETAS: [f64; 2] = [0.6, 0.7];
const DECAYING: [usize; 3] = [50, 120, 180];
const DECAYED: usize = 400;

fn main() {
    let sizes = even(1_000_000, 4);
    let group = |precision, moment_dtype| ParamGroup {
        beta1: BETAS[0],
        beta2: BETAS[1],
        precision,
        moment_dtype,
        ..ParamGroup::default()
    };
    let plain = group(Precision::Nearest, None);
    let low = Some(DType::BF16);
    let kinds = [
        ("float32", DType::F32, plain),
        ("float64", DType::F64, plain),
        ("float32, bfloat16 moments", DType::F32, group(Precision::Nearest, low)),
        ("bfloat16", DType::BF16, plain),
        ("bfloat16 moments", DType::BF16, group(Precision::Nearest, low)),
        ("bfloat16 stochastic", DType::BF16, group(Precision::Stochastic, low)),
        ("bfloat16 master", DType::BF16, group(Precision::Master, None)),
        ("bfloat16 remainder", DType::BF16, group(Precision::Remainder, None)),
        ("float16", DType::F16, plain),
    ];
    println!("{:28} {:>10}   dead rows / live rows after … steps", "", "live, ms");
    print!("{:28} {:>10}", "", "");
    DECAYING.iter().chain([&DECAYED]).for_each(|step| print!(" {step:>6}"));
    println!("  target: ≤ 1.05 after {DECAYED}");
    for (name, dtype, group) in kinds {
        let options = Options { threads: 1, ..Options::default() };
        let mut contestants = [1, LIVE].map(|live| {
            let mut model = Model::new(&sizes, dtype);
            let mut optimizer = optimizer(options.clone(), group, specs(&sizes, dtype));
            model.step(&mut optimizer);
            model.set_gradients(&sizes, dtype, |i| (i / ROW).is_multiple_of(live));
            (model, optimizer)
        });
        let mut done = 1;
        let (mut live, mut ratios) = (Vec::new(), Vec::new());
        for wanted in DECAYING.into_iter().chain([DECAYED]) {
            for (model, optimizer) in &mut contestants {
                model.steps(optimizer, wanted - done);
            }
            let mut rounds = Vec::new();
            for _ in 0..7 {
                let [live_time, dead_time] =
                    contestants.each_mut().map(|(model, optimizer)| median(&model.steps(optimizer, 3)));
                live.push(live_time);
                rounds.push(dead_time / live_time);
            }
            done = wanted + 21;
            ratios.push(median(&rounds));
        }
        print!("{name:28} {:>10.3}", median(&live));
        ratios.iter().for_each(|ratio| print!(" {ratio:>6.3}"));
        println!();
    }
}
