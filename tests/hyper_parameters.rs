//! Hyper-parameters that are set later hold as if they had been given at the start, and what a schedule moved is resumed.

mod common;

use common::handle::{Handle, param_group};
use common::tensor::bits;
use common::toy::{Toy, small_options};
use metaadamw::ffi::*;

fn handle(toy: &Toy, options: &maw_options, group: &maw_param_group) -> Handle {
    let mut handle = Handle::new(options).expect("good options");
    handle.add(group, &toy.specs).expect("good tensors");
    handle
}

#[test]
fn betas_eps_and_clipping_that_are_set_equal_those_that_were_registered() {
    let toy = Toy::small();
    let options = maw_options { meta_interval: 2, ..small_options() };
    let group = maw_param_group { beta1: 0.8, beta2: 0.95, eps: 1e-5, ..param_group() };
    let mut given = handle(&toy, &maw_options { max_grad_norm: 0.25, ..options }, &group);
    // Set before preparation, and after it.
    for prepare in [false, true] {
        let mut set = handle(&toy, &options, &param_group());
        if prepare {
            set.prepare().expect("prepared");
        }
        set.set_betas(MAW_ALL_GROUPS, [0.8, 0.95]).expect("usable");
        set.set_eps(0, 1e-5).expect("usable");
        set.set_max_grad_norm(0.25).expect("usable");
        assert_eq!(set.hyper_parameters(0).expect("a group"), [0.8, 0.95, 1e-5, 0.25]);
        let (mut params, mut params_of_given) = (toy.start.clone(), toy.start.clone());
        toy.train(&mut set, &mut params, 0, 4);
        toy.train(&mut given, &mut params_of_given, 0, 4);
        assert_eq!(bits(&params), bits(&params_of_given));
        assert_eq!(set.save_bytes(0).expect("saved"), given.save_bytes(0).expect("saved"));
        given.reset(MAW_RESET_MOMENTS | MAW_RESET_ATTENTION).expect("prepared");
    }
}

#[test]
fn hyper_parameters_that_a_schedule_moved_are_taken_from_the_file() {
    let toy = Toy::small();
    let (mut first, mut params) = (handle(&toy, &small_options(), &param_group()), toy.start.clone());
    toy.train(&mut first, &mut params, 0, 2);
    first.set_betas(0, [0.85, 0.99]).expect("usable");
    first.set_eps(0, 1e-6).expect("usable");
    first.set_max_grad_norm(2.0).expect("usable");
    let file = first.save_bytes(0).expect("saved");
    let mut second = handle(&toy, &small_options(), &param_group());
    assert_eq!(second.load_bytes(&file, MAW_LOAD_STRICT).expect_err("they differ").status, MAW_MISMATCH);
    second.load_bytes(&file, 0).expect("they have setters");
    assert_eq!(second.hyper_parameters(0).expect("a group"), [0.85, 0.99, 1e-6, 2.0]);
    let mut params_of_second = params.clone();
    toy.train(&mut first, &mut params, 2, 2);
    toy.train(&mut second, &mut params_of_second, 2, 2);
    assert_eq!(bits(&params), bits(&params_of_second));
}

#[test]
fn values_that_cannot_be_used_are_refused_and_change_nothing() {
    let toy = Toy::small();
    let mut handle = handle(&toy, &small_options(), &param_group());
    handle.prepare().expect("prepared");
    let before = handle.save_bytes(0).expect("saved");
    for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(handle.set_betas(0, [bad, 0.9]).expect_err("bad").status, MAW_INVALID_ARGUMENT);
        let failure = handle.set_betas(0, [0.9, bad]).expect_err("bad");
        assert!(failure.message.contains("beta2"), "{}", failure.message);
    }
    // Float32 tensors are among them.
    for bad in [0.0, -1e-8, 1e-40, f64::NAN, f64::INFINITY] {
        let failure = handle.set_eps(0, bad).expect_err("bad");
        assert_eq!(failure.status, MAW_INVALID_ARGUMENT, "{}", failure.message);
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(handle.set_max_grad_norm(bad).expect_err("bad").status, MAW_INVALID_ARGUMENT);
    }
    assert_eq!(handle.set_betas(1, [0.9, 0.9]).expect_err("there is one group").status, MAW_NOT_FOUND);
    assert_eq!(handle.set_eps(1, 1e-8).expect_err("there is one group").status, MAW_NOT_FOUND);
    assert_eq!(handle.hyper_parameters(1).expect_err("there is one group").status, MAW_NOT_FOUND);
    assert_eq!(handle.save_bytes(0).expect("saved"), before);
    let mut params = toy.start.clone();
    toy.train(&mut handle, &mut params, 0, 1);
    handle.begin(&mut params).expect("begun");
    assert_eq!(handle.set_betas(0, [0.9, 0.9]).expect_err("one is open").status, MAW_INVALID_STATE);
    assert_eq!(handle.set_eps(0, 1e-8).expect_err("one is open").status, MAW_INVALID_STATE);
    assert_eq!(handle.set_max_grad_norm(1.0).expect_err("one is open").status, MAW_INVALID_STATE);
}

#[test]
fn requests_have_the_same_seed_exactly_if_they_replay_one_another() {
    let toy = Toy::small();
    let options = maw_options { meta_interval: 1, difference: MAW_DIFFERENCE_CENTRAL, ..small_options() };
    let (mut first, mut params) = (handle(&toy, &options, &param_group()), toy.start.clone());
    let mut seeds: Vec<(u64, u64)> = Vec::new(); // of what it replays at last, and the seed
    let update = |handle: &mut Handle, params: &mut Vec<common::tensor::Tensor>, number: u64| {
        let mut found = Vec::new();
        handle
            .meta_update(params, |request, params| {
                let replayed = if request.replay == 0 { request.id } else { request.replay };
                found.push((1000 * number + replayed, request.seed));
                toy.answer(request, params)
            })
            .expect("a meta-update");
        found
    };
    for step in 0..4 {
        toy.train(&mut first, &mut params, step, 1);
        let file = first.save_bytes(0).expect("saved");
        let found = update(&mut first, &mut params, step as u64);
        let mut resumed = handle(&toy, &options, &param_group());
        resumed.load_bytes(&file, 0).expect("the same run");
        let again = update(&mut resumed, &mut params, step as u64);
        let only_seeds = |pairs: &[(u64, u64)]| pairs.iter().map(|(_, seed)| *seed).collect::<Vec<_>>();
        assert_eq!(only_seeds(&found), only_seeds(&again), "a resumed run gets the same");
        assert!(found.len() >= 5, "all of a combined objective's: {found:?}");
        seeds.extend(found);
    }
    for (a, seed_a) in &seeds {
        for (b, seed_b) in &seeds {
            assert_eq!(a == b, seed_a == seed_b, "{a} {b}");
        }
    }
}
