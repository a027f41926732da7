//! The optimizer as a handle owns it: registration, setters and getters.
//!
//! ```text
//! prepared      what exists from preparation on                  registration  adding and removing tensors
//! step          steps                                            meta          meta-updates
//! settings      hyper-parameters                                 checkpoint    saving and loading
//! tensor_state  one tensor's moments, step count and masters     dump          the state as JSON
//! averages      the averages of the parameters               log           what is worth telling
//! processes     one model over several processes
//! ```

mod averages;
mod checkpoint;
mod dump;
mod log;
mod meta;
mod prepared;
mod processes;
mod registration;
mod settings;
mod step;
mod tensor_state;

use std::borrow::Cow;
use std::ffi::c_void;
use std::sync::Arc;

use self::log::Logger;
pub use self::log::{Log, LogLevel};
use self::prepared::{Prepared, Ready};
use crate::backend::AllReduce;
use crate::backend::cpu;
use crate::backend::cuda::Device;
use crate::checkpoint::LoadReport;
use crate::error::{Error, Result, StateError, readable};
use crate::model::groups::{Groups, Tensor};
use crate::model::options::{Options, ParamGroup, Place};
use crate::model::registration::Registration;
pub use crate::model::report::Counters;
use crate::modulation::{Factors, Modulation};
use crate::reserve::{self, sum, times};
use crate::run::Stream;

/// All of MetaAdamW for one model. One call at a time; may move between threads.
pub struct Optimizer {
    registration: Registration,
    ready: Option<Ready>,
    log: Logger,
    /// Opened at creation, so that its errors come there.
    cuda: Option<Arc<Device>>,
    stream: Stream,
    memory_of_a_call: usize,
    /// Of the last load.
    load_report: LoadReport,
    /// Where other processes have the rest of the model; its calls are counted in the run.
    all_reduce: Option<AllReduce>,
}

/// Messages and small things.
const MEMORY_OF_A_CALL: usize = 32 << 10;

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimizer")
            .field("tensors", &self.tensors().len())
            .field("steps", &self.steps())
            .finish_non_exhaustive()
    }
}

impl Optimizer {
    /// An optimizer without tensors.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] names the first option that is not usable; the device's.
    pub fn new(options: Options) -> Result<Self> {
        let registration = Registration::new(options)?;
        let cuda = match registration.options.device {
            Place::Cpu => None,
            Place::Cuda(index) => Some(Device::open("options.device_index", index)?),
        };
        let of_threads = if cuda.is_some() { 0 } else { times(cpu::threads(&registration.options), 1 << 10) };
        Ok(Self {
            registration,
            ready: None,
            log: Logger::default(),
            cuda,
            stream: Stream::default(),
            memory_of_a_call: sum([MEMORY_OF_A_CALL, of_threads]),
            load_report: LoadReport::default(),
            all_reduce: None,
        })
    }

    /// What a call allocates at most that takes no reserve of its own: a message; beside several threads their queues; on
    /// a device what its passes take.
    pub(crate) fn memory_of_a_call(&self) -> usize {
        self.memory_of_a_call
    }

    /// Back to the start: moments and step counts, Φ, or both.
    ///
    /// # Errors
    /// Before preparation; an open meta-update.
    pub fn reset(&mut self, moments: bool, attention: bool) -> Result<()> {
        let mut p = self.changeable()?.ok_or(StateError::NotPrepared)?;
        p.sync()?;
        if attention && let Some(modulation) = &mut p.run.state.modulation {
            reserve::with(modulation.memory(), || {
                modulation.reset_attention(&p.registration.options);
                Ok(())
            })?;
            if let Some(horizon) = &mut p.run.state.horizon {
                horizon.reset();
            }
        }
        if moments {
            p.run.reset_moments(p.registration);
            p.meta.restore(p.meta.updates(), None);
        }
        p.push()
    }

    /// Sets a tensor of the attention module.
    ///
    /// # Errors
    /// Before preparation; no such tensor; a wrong count; a value not finite; an open meta-update.
    pub fn set_attention(&mut self, name: &str, values: &[f64]) -> Result<()> {
        let p = self.changeable()?.ok_or(StateError::NotPrepared)?;
        let no_such = || Error::no_attention_tensor(name);
        let attention = p.run.state.modulation.as_mut().map(|m| &mut m.attention).ok_or_else(no_such)?;
        let range = attention.range(name).ok_or_else(no_such)?;
        Error::length("count", values.len(), range.len(), "values of that tensor")?;
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::range(format!("values[{i}]"), readable(values[i]), "finite"));
        }
        if let Some(device) = p.run.backend.device() {
            device.set_phi(range.start, values)?;
        }
        attention.values_mut()[range].copy_from_slice(values);
        Ok(())
    }

    /// Hears the log from now on; `None` silences it.
    ///
    /// # Errors
    /// An open meta-update.
    pub fn set_log(&mut self, log: Option<Log>) -> Result<()> {
        self.changeable()?;
        self.log = Logger(log);
        Ok(())
    }

    /// The CUDA stream on which all later calls enqueue their work. What was enqueued before is waited for.
    ///
    /// # Errors
    /// A stream of an optimizer on the CPU; work in a capture of the stream that is left; the driver's, such as for a
    /// handle that is no stream.
    pub(crate) fn set_stream(&mut self, stream: *mut c_void) -> Result<()> {
        if self.cuda.is_none() && !stream.is_null() {
            return Err(Error::Unsupported { what: "a stream of an optimizer on the CPU".to_owned() });
        }
        match (&mut self.ready, &self.cuda) {
            (Some(ready), _) => ready.run.backend.set_stream(stream)?,
            (None, Some(device)) => device.check_stream(stream)?,
            (None, None) => {}
        }
        self.stream = Stream(stream);
        Ok(())
    }

    /// Waits for the device and brings what the getters tell up to date; on the CPU there is nothing to do.
    ///
    /// # Errors
    /// A capture under way; the driver's, of whatever ran.
    pub fn sync(&mut self) -> Result<()> {
        self.prepared().map_or(Ok(()), |mut p| p.sync())
    }

    /// A setter may act: no meta-update is open. What was announced is forgotten. The parts, after preparation.
    ///
    /// # Errors
    /// One is open.
    fn changeable(&mut self) -> Result<Option<Prepared<'_>>> {
        let mut prepared = self.prepared();
        if let Some(p) = &mut prepared {
            p.between_meta_updates()?;
        }
        Ok(prepared)
    }

    fn ready(&self) -> Result<&Ready> {
        self.ready.as_ref().ok_or(StateError::NotPrepared.into())
    }

    /// Applied steps.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.ready.as_ref().map_or(0, |ready| ready.run.state.steps)
    }

    /// The options, with the priorities as they are now.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.registration.options
    }

    /// The param groups, with learning rates and weight decays as they are now.
    #[must_use]
    pub fn param_groups(&self) -> &[ParamGroup] {
        &self.registration.param_groups
    }

    /// The param group of that number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn param_group(&self, index: usize) -> Result<&ParamGroup> {
        let groups = self.param_groups();
        groups.get(index).ok_or_else(|| Error::no_index("param group", index, groups.len()))
    }

    /// The registered tensors.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.registration.tensors
    }

    /// The tensor of that number.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tensor(&self, index: usize) -> Result<&Tensor> {
        self.registration.tensor(index)
    }

    /// The modulation groups.
    ///
    /// # Errors
    /// Before preparation.
    pub fn groups(&self) -> Result<&Groups> {
        Ok(&self.ready()?.run.groups)
    }

    /// The attention module and what feeds it; `None` with modulation off.
    ///
    /// # Errors
    /// Before preparation.
    pub fn modulation(&self) -> Result<Option<&Modulation>> {
        Ok(self.ready()?.run.state.modulation.as_ref())
    }

    /// Factors of the last applied step or begun meta-update; all 1 (λ too) with modulation off.
    ///
    /// # Errors
    /// Before preparation, or before the first step.
    pub fn factors(&self) -> Result<Cow<'_, Factors>> {
        match self.modulation()? {
            None => {
                let groups = self.groups()?.groups.len();
                reserve::with(sum([times(groups, 128), 256]), || Ok(Cow::Owned(Factors::constant(groups, 1.0))))
            }
            Some(m) => m.last().map(|(_, factors)| Cow::Borrowed(factors)).ok_or(StateError::NoFactors.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! A small run through the safe API, small enough for Miri.

    use super::*;
    use crate::checkpoint::{Contents, OnConflict};
    use crate::meta::{Answer, Kind};
    use crate::model::dtype::{DType, Precision};
    use crate::model::groups::TensorSpec;
    use crate::model::host_buffers::{Gradient, Grads, Params, Slice, SliceMut};
    use crate::model::report::StepOptions;

    /// A float32 tensor whose length no vector divides, a float64 one, a bfloat16 one with masters.
    struct Model {
        single: Vec<f32>,
        double: Vec<f64>,
        half: Vec<u16>,
    }

    impl Model {
        fn new() -> Self {
            Self {
                single: (0..19).map(|i| 0.1 * i as f32 - 0.9).collect(),
                double: vec![0.5, -0.25],
                half: vec![0x3F80; 3],
            }
        }

        fn params(&mut self) -> Params<'_> {
            let Self { single, double, half } = self;
            Params::new([SliceMut::F32(single), SliceMut::F64(double), SliceMut::BF16(half)])
        }

        /// Σ x²/2 over all tensors.
        fn loss(&self) -> f64 {
            let single = self.single.iter().map(|x| f64::from(x * x)).sum::<f64>();
            (single + self.double.iter().map(|x| x * x).sum::<f64>()) / 2.0
        }

        fn step(&mut self, optimizer: &mut Optimizer) {
            let (g, g2) = (self.single.clone(), self.double.clone());
            let grads = Grads::new([Some(Slice::F32(&g)), Some(Slice::F64(&g2)), Some(Slice::BF16(&[0x3E00; 3]))]);
            let report = optimizer.step(&self.params(), &grads, &StepOptions::default()).expect("a step");
            assert_eq!(report.skipped, None);
        }
    }

    fn spec(name: &str, dtype: DType, length: u64) -> TensorSpec {
        TensorSpec::new(name, &[length], dtype).expect("a name")
    }

    fn optimizer() -> Optimizer {
        let options =
            Options { attn_layers: 1, attn_hidden_dim: 3, threads: 1, meta_interval: 2, ..Options::default() };
        let mut optimizer = Optimizer::new(options).expect("good options");
        let tensors = vec![spec("layers.0.weight", DType::F32, 19), spec("layers.1.bias", DType::F64, 2)];
        optimizer.add_param_group(ParamGroup::default(), tensors).expect("good tensors");
        let half =
            ParamGroup { precision: Precision::Master, moment_dtype: Some(DType::BF16), ..ParamGroup::default() };
        optimizer.add_param_group(half, vec![spec("layers.2.weight", DType::BF16, 3)]).expect("a good tensor");
        optimizer
    }

    #[test]
    fn a_small_run_learns_is_saved_and_resumed() {
        let (mut first, mut model) = (optimizer(), Model::new());
        model.step(&mut first);
        let g = model.single.clone();
        first.observe_gradient(0, &Gradient::new(Slice::F32(&g))).expect("announced");
        model.step(&mut first);
        assert!(first.meta_due());
        let mut request = first.meta_begin(&model.params()).expect("begun");
        while let Some(asked) = request {
            let (g, g2) = (model.single.clone(), model.double.clone());
            let grads = Grads::new([Some(Slice::F32(&g)), Some(Slice::F64(&g2)), None]);
            let answer = Answer { request_id: asked.id, loss: model.loss(), grad_scale: 1.0 };
            let grads = (asked.kind == Kind::Gradient).then_some(&grads);
            request = first.meta_tell(&answer, &model.params(), grads).expect("an answer");
        }
        assert_eq!(first.meta_result().expect("it ended").updates, 1);
        let file = first.save_bytes(Contents::Run).expect("saved");
        let mut second = optimizer();
        second.load_bytes(&file, Contents::Run, OnConflict::Strict).expect("it fits");
        let mut resumed =
            Model { single: model.single.clone(), double: model.double.clone(), half: model.half.clone() };
        model.step(&mut first);
        resumed.step(&mut second);
        assert_eq!((model.single, model.double, model.half), (resumed.single, resumed.double, resumed.half));
        assert_eq!(first.save_bytes(Contents::Run).expect("saved"), second.save_bytes(Contents::Run).expect("saved"));
        first.dump_state().expect("a dump");
        first.reset(true, true).expect("prepared");
    }
}
