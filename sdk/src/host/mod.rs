//! The host's side of every call that the SDK makes, as plain functions: through the component's imports in a plugin,
//! through [`crate::testing`] in a native build. Both files have the same functions.

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(not(target_arch = "wasm32"))]
mod native;

#[cfg(target_arch = "wasm32")]
pub(crate) use component::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;

/// Makes the next bytes under a key out of the ones there.
pub(crate) type Change<'a> = &'a mut dyn FnMut(Option<Vec<u8>>) -> Result<Vec<u8>, crate::Failure>;
