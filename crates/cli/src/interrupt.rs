//! Ctrl-C: the first stops the generation and keeps what there is, the second ends the program.

use std::sync::{Mutex, OnceLock};

use camelid_engine::CancelToken;

static CURRENT: Mutex<Option<CancelToken>> = Mutex::new(None);
static INSTALLED: OnceLock<bool> = OnceLock::new();

/// Exit code of a program that Ctrl-C ended, as shells give it.
const INTERRUPTED: i32 = 130;

/// Lets Ctrl-C cancel `token` from now on.
pub fn cancels(token: CancelToken) {
    set(Some(token));
    let installed = INSTALLED.get_or_init(|| ctrlc::set_handler(on_interrupt).is_ok());
    if !installed {
        tracing::warn!("Ctrl-C cannot be caught here: it ends the program at once");
    }
}

fn on_interrupt() {
    let current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match &*current {
        Some(token) if !token.is_cancelled() => token.cancel(),
        _ => std::process::exit(INTERRUPTED),
    }
}

fn set(token: Option<CancelToken>) {
    *CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = token;
}
