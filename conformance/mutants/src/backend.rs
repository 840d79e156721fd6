//! The backend that a mutant, an honest variant or a trivial one is opened from.

use camelid_core::backend::{Backend, BackendError, Device, DeviceInfo, DeviceKind, Devices, Options};
use camelid_reference::ReferenceBackend;
use camelid_sdk::Interpreter;

use crate::catalogue::{self, TRIVIAL};
use crate::device::{self, FaultyDevice};
use crate::faults;
use crate::kernels::{FaultyKernels, Honest};

/// The name of every one of them.
pub const NAME: &str = "faulty";

/// The backend of a mutant or variant; `None` if there is none of this name.
pub fn backend(id: &str) -> Option<Box<dyn Backend>> {
    let id = catalogue::find(id)?;
    Some(Box::new(Faulty { id }))
}

struct Faulty {
    id: &'static str,
}

impl Backend for Faulty {
    fn name(&self) -> &str {
        NAME
    }

    fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    fn devices(&self) -> Result<Devices, BackendError> {
        let device = DeviceInfo { name: self.id.into(), kind: DeviceKind::Cpu, memory: None };
        Ok(Devices { list: vec![device], note: None })
    }

    fn open(&self, index: usize, options: &Options) -> Result<Box<dyn Device>, BackendError> {
        options.reject_unknown(&[])?;
        if index != 0 {
            return Err(BackendError::invalid(format!("there is no device {index}; there is only device 0")));
        }
        let mut one = Options::default();
        one.set("threads", "1");
        let reference = || ReferenceBackend.open(0, &one);
        if device::MUTANTS.iter().any(|m| m.id == self.id) || TRIVIAL.iter().any(|v| v.id == self.id) {
            return Ok(Box::new(FaultyDevice::new(reference()?, self.id)));
        }
        let fault = faults::all().find(|(mutant, _)| mutant.id == self.id).map(|(_, fault)| *fault);
        let fault = fault.or_else(|| crate::catalogue::honest_fault(self.id));
        let kernels = FaultyKernels::new(Honest::new(reference()?), fault, self.id != "core_operations");
        Ok(Box::new(Interpreter::new(kernels)))
    }
}
