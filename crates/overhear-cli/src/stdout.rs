//! Detection of a standard output that was closed before the program started (`overhear ... >&-`).

use overhear_kernels::stdout_was_closed;

use crate::failure::Failure;

/// Checks that standard output can be written to.
///
/// # Errors
/// [`Failure::Output`] if it is closed.
pub(crate) fn require_open() -> Result<(), Failure> {
    match stdout_was_closed() {
        true => Err(Failure::Output(
            "standard output is closed or not writable: redirect it to a file or a pipe".to_owned(),
        )),
        false => Ok(()),
    }
}
