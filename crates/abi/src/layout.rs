//! Sizes and offsets of every struct, as data: what the header asserts and the golden test compares.

use core::mem::{align_of, offset_of, size_of};

use super::attrs::*;
use super::*;

/// The layout of a struct.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in Rust.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Its fields with their offsets in bytes, in order.
    pub fields: &'static [(&'static str, usize)],
}

macro_rules! layouts {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        /// Every struct of the interface.
        pub const LAYOUTS: &[Layout] = &[$(Layout {
            name: stringify!($name),
            size: size_of::<$name>(),
            align: align_of::<$name>(),
            fields: &[$((stringify!($field), offset_of!($name, $field))),*],
        }),*];

        // Does not compile unless every field is listed.
        #[allow(dead_code)]
        fn every_field_is_listed() {
            $(let _ = |$name { $($field: _),* }: $name| ();)*
        }
    };
}

layouts! {
    Str { ptr, len }
    KeyValue { key, value }
    DType { id, block_elems, block_bytes, reserved }
    TensorType { dtype, rank, reserved, dim }
    Binding { value, reserved, buffer, offset }
    Value { struct_size, kind, ty, name, in_place_of, step_input, step_param }
    Node { struct_size, op, op_version, n_inputs, n_outputs, attrs_size, inputs, outputs, attrs, name, scope }
    Output { struct_size, value, name }
    Graph {
        struct_size, n_values, n_nodes, n_outputs, n_symbols, reserved, values, nodes, outputs, symbol_min, symbol_max,
    }
    BmmAttrs { transpose_b }
    RmsNormAttrs { eps }
    RopeAttrs { head_dim }
    ActivationAttrs { kind }
    SoftmaxAttrs { scale }
    CastAttrs { to }
    ReshapeAttrs { rank, reserved, dim }
    AttentionAttrs { num_heads, num_kv_heads, head_dim, block_size, window, scale, reserved }
    Manifest { magic, struct_size, abi_major, abi_minor, name, version, target }
    Error { struct_size, capacity, message }
    Host { struct_size, abi_minor, ctx, log }
    DeviceInfo { struct_size, kind, memory, name }
    Support { struct_size, verdict, reason_capacity, reserved, reason }
    BufferDesc { struct_size, usage, size, name }
    Weight {
        struct_size, flags, ty, data, size, name, release, release_ctx, placement, reserved,
    }
    Api {
        struct_size, abi_minor, shutdown, device_count, device_info, device_open, device_close, device_sync,
        graph_supports, buffer_alloc, weight_load, buffer_write, buffer_read, buffer_copy, buffer_free, plan_compile,
        plan_run, plan_free, extension,
    }
}
