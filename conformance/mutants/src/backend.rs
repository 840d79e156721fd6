//! The backend that a mutant, an honest variant or a trivial one is opened from.

use std::sync::atomic::{AtomicBool, Ordering};

use camelid_core::backend::{Backend, BackendError, Device, DeviceInfo, DeviceKind, Devices, Options};
use camelid_reference::ReferenceBackend;
use camelid_sdk::Interpreter;

use crate::boundary::{self, FaultyBoundary};
use crate::catalogue::{self, TRIVIAL};
use crate::device::{self, FaultyDevice};
use crate::faults;
use crate::fire;
use crate::honest;
use crate::kernels::{FaultyKernels, Honest};
use crate::keyed::{self, FaultyKeyed};

/// The name of every one of them.
pub const NAME: &str = "faulty";

/// The backend of a mutant or variant; `None` if there is none of this name.
pub fn backend(id: &str) -> Option<Box<dyn Backend>> {
    let id = catalogue::find(id)?;
    Some(Box::new(Faulty { id }))
}

/// Whether a device was opened in this process.
static OPENED: AtomicBool = AtomicBool::new(false);

struct Faulty {
    id: &'static str,
}

impl Backend for Faulty {
    fn name(&self) -> &str {
        if self.id == "name_cannot_be_written" && OPENED.load(Ordering::SeqCst) {
            fire();
            return "Faulty Backend";
        }
        NAME
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        if self.id == "loses_its_device" && OPENED.load(Ordering::SeqCst) {
            fire();
            return Ok(Devices { list: Vec::new(), note: Some("it was there".into()) });
        }
        let device = DeviceInfo { name: self.id.into(), kind: DeviceKind::Cpu, memory: None };
        Ok(Devices { list: vec![device], note: None })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        OPENED.store(true, Ordering::SeqCst);
        match (self.id, options.reject_unknown(&[])) {
            (_, Ok(())) => {}
            ("takes_any_option", Err(_)) => fire(),
            ("refuses_options_without_a_name", Err(_)) => {
                fire();
                return Err(BackendError::invalid("there is an option that is not known"));
            }
            (_, Err(error)) => return Err(error),
        }
        if self.id == "one_device_at_a_time" && boundary::OPEN.load(Ordering::SeqCst) > 0 {
            fire();
            return Err(BackendError::invalid("the device is in use"));
        }
        if index != 0 && self.id == "opens_what_is_not_there" {
            fire();
        } else if index != 0 {
            return Err(BackendError::invalid(format!("there is no device {index}; there is only device 0")));
        }
        let mut one = Options::default();
        one.set("threads", if self.id == "eight_threads" { "8" } else { "1" });
        let reference = || ReferenceBackend.open(0, &one);
        if self.id == "eight_threads" {
            return reference();
        }
        if device::MUTANTS.iter().any(|m| m.id == self.id) || TRIVIAL.iter().any(|v| v.id == self.id) {
            return Ok(Box::new(FaultyDevice::new(reference()?, self.id)));
        }
        if boundary::MUTANTS.iter().any(|m| m.id == self.id) {
            return Ok(Box::new(FaultyBoundary::new(reference()?, self.id)));
        }
        if keyed::MUTANTS.iter().any(|m| m.id == self.id) {
            return Ok(Box::new(FaultyKeyed::new(reference()?, self.id)));
        }
        let fault = faults::all().find(|(mutant, _)| mutant.id == self.id).map(|(_, fault)| *fault);
        let fault = fault.or_else(|| honest::fault(self.id));
        let kernels = FaultyKernels::new(Honest::new(reference()?), fault, self.id != "core_operations");
        Ok(Box::new(Interpreter::new(kernels)))
    }
}
