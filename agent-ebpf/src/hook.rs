//! How the kernel calls a program.
//!
//! Each program is there twice: once for kernels that check its arguments' types (BTF-typed raw tracepoints), once for
//! those that do not (raw tracepoints). Both see the same array of arguments; user space loads one of the two.

/// The arguments of a tracepoint.
#[derive(Clone, Copy)]
pub struct Arguments(pub *const u64);

impl Arguments {
    /// Argument `index` as a number.
    #[inline(always)]
    pub fn number(self, index: usize) -> u64 {
        // SAFETY: the verifier checks that the tracepoint has the argument.
        unsafe { core::ptr::read_volatile(self.0.add(index)) }
    }

    /// Argument `index` as a kernel address.
    #[inline(always)]
    pub fn address(self, index: usize) -> crate::kernel::Address {
        self.number(index) as crate::kernel::Address
    }
}

/// Makes both programs of a hook from one function.
macro_rules! hook {
    ($hook:ident, $raw:ident, $work:path) => {
        #[doc = concat!("The typed program for `", stringify!($hook), "`.")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("tp_btf/", stringify!($hook)))]
        pub extern "C" fn $hook(arguments: *const u64) -> i32 {
            $work($crate::hook::Arguments(arguments));
            0
        }

        #[doc = concat!("The untyped program for `", stringify!($hook), "`.")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("raw_tp/", stringify!($hook)))]
        pub extern "C" fn $raw(arguments: *const u64) -> i32 {
            $work($crate::hook::Arguments(arguments));
            0
        }
    };
}
