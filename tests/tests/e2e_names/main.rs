//! Workloads under their own names: real podman containers, real pods of containerd's CRI, real systemd units.
//!
//! Needs root, cgroups, and what `cargo xtask setup` installs. Nothing is pulled from a registry: the images are built
//! from the host's static busybox and catatonit.

#[cfg(test)]
mod boxed;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod image;
#[cfg(test)]
mod podman;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod rows;
