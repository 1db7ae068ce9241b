//! Standard output that was closed before the program began (`overhear ... >&-`).

use overhear_kernels::stdout_was_closed;

use crate::failure::Failure;

/// Refuses to work for a standard output that nothing can be written to.
///
/// # Errors
/// [`Failure::Output`].
pub(crate) fn require_open() -> Result<(), Failure> {
    match stdout_was_closed() {
        true => Err(Failure::Output(
            "standard output is closed, or open to read only: there is nowhere to write to"
                .to_owned(),
        )),
        false => Ok(()),
    }
}
