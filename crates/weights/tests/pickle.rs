//! Files of `torch.save`: what is read, and what is refused without being run.

mod common;

use camelid_weights::WeightsError;
use camelid_weights::pickle::{Element, TorchFile};
use common::torch::{Pickle, Tensor, archive, archive_with, file};
use common::*;
use proptest::prelude::*;

/// Opens a file with these bytes.
fn open(bytes: &[u8]) -> Result<TorchFile, WeightsError> {
    let folder = folder(&[("x.pth", bytes)]);
    // The file stays open, and its map, when its name is gone.
    TorchFile::open(folder.path().join("x.pth"))
}

#[track_caller]
fn refused(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(file) => panic!("it was read: {:?}", file.tensors()),
        Err(error) => chain(&error),
    }
}

fn rows(file: &TorchFile, name: &str, from: usize, count: usize) -> Vec<f32> {
    let mut out = Vec::new();
    file.read_rows(file.tensor(name).expect("there"), from, count, &mut out).expect("rows");
    out.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Six floats, 0 to 5.
fn six() -> Vec<u8> {
    (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

#[test]
fn a_dictionary_of_tensors_is_read() {
    let mut transposed = Tensor::whole("FloatStorage", "0", &[3, 2]);
    transposed.stride = vec![1, 3];
    let mut column = Tensor::whole("FloatStorage", "0", &[2]);
    (column.count, column.offset, column.stride) = (6, 1, vec![3]);
    let tensors = [
        ("a.weight", Tensor::whole("FloatStorage", "0", &[2, 3])),
        ("transposed", transposed),
        ("column", column),
        ("half", Tensor::whole("HalfStorage", "1", &[2])),
        ("scalar", Tensor::whole("FloatStorage", "2", &[])),
        ("empty", Tensor::whole("FloatStorage", "3", &[0, 7])),
    ];
    let bytes = file(
        &Pickle::new().state_dict(&tensors),
        &[("0", &six()), ("1", &[0, 0x3c, 0, 0xc0]), ("2", &2.5f32.to_le_bytes()), ("3", &[])],
    );
    let file = open(&bytes).unwrap();
    assert_eq!(rows(&file, "a.weight", 1, 1), [3.0, 4.0, 5.0]);
    assert_eq!(rows(&file, "transposed", 0, 3), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(rows(&file, "transposed", 1, 2), [1.0, 4.0, 2.0, 5.0]);
    assert_eq!(rows(&file, "column", 0, 2), [1.0, 4.0]);
    assert_eq!(rows(&file, "scalar", 0, 1), [2.5]);
    assert_eq!(rows(&file, "empty", 0, 0), [0.0; 0]);
    assert_eq!(file.tensor("half").unwrap().element, Element::F16);
    assert!(!file.tensor("transposed").unwrap().is_contiguous() && file.tensor("a.weight").unwrap().is_contiguous());
    let mut out = Vec::new();
    assert!(file.read_rows(file.tensor("half").unwrap(), 1, 2, &mut out).is_err());
}

#[test]
fn wrappers_metadata_and_parameters_are_passed_through() {
    // {"step": 3, "model": OrderedDict with attributes, of one Parameter}
    let tensor = Tensor::whole("FloatStorage", "0", &[6]);
    let pickle = Pickle::new()
        .op(b"}(")
        .text("step")
        .op(b"K\x03")
        .text("model")
        .global("collections", "OrderedDict")
        .op(b")R")
        .text("w")
        .global("torch._utils", "_rebuild_parameter")
        .op(b"(")
        .tensor(&tensor)
        .op(&[0x88])
        .global("collections", "OrderedDict")
        .op(b")RtRs")
        .op(b"}")
        .text("_metadata")
        .op(b"}sbu.");
    let file = open(&file(&pickle, &[("0", &six())])).unwrap();
    assert_eq!(rows(&file, "w", 0, 6), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn nothing_a_pickle_names_is_run() {
    let marker = tempfile::tempdir().unwrap();
    let touched = marker.path().join("touched");
    let command = format!("touch {}", touched.display());
    let call =
        |module: &str, name: &str| file(&Pickle::new().global(module, name).op(b"(").text(&command).op(b"tR."), &[]);
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("subprocess", "check_output"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.utils.cpp_extension", "load"),
        ("runpy", "run_path"),
        ("collections", "Counter"),
    ] {
        let error = refused(&call(module, name));
        assert_says(&error, &[&format!("{module}.{name}"), "x.pth", "nothing was run"]);
    }
    // The other ways to name a function, and to call one.
    let stack_global = Pickle::new().text("os").text("system").op(&[0x93]).op(b"(").text(&command).op(b"tR.");
    assert_says(&refused(&file(&stack_global, &[])), &["os.system"]);
    let instance = Pickle::new().op(b"(").text(&command).op(b"ios\nsystem\n.");
    assert_says(&refused(&file(&instance, &[])), &["INST"]);
    let object = Pickle::new().op(b"(").global("torch", "FloatStorage").text(&command).op(b"o.");
    assert_says(&refused(&file(&object, &[])), &["OBJ"]);
    let new = Pickle::new().global("collections", "OrderedDict").op(b")").op(&[0x81]).op(b".");
    assert_says(&refused(&file(&new, &[])), &["NEWOBJ"]);
    // A name that is allowed, with arguments that would do harm.
    let size = Pickle::new().global("torch", "Size").op(b"(").text(&command).op(b"tR.");
    assert_says(&refused(&file(&size, &[])), &["torch.Size"]);
    assert!(!touched.exists());
}

#[test]
fn what_does_not_fit_is_named() {
    let good = Tensor::whole("FloatStorage", "0", &[2, 3]);
    let with = |change: &dyn Fn(&mut Tensor)| {
        let mut tensor = good.clone();
        change(&mut tensor);
        refused(&file(&Pickle::new().state_dict(&[("w", tensor)]), &[("0", &six())]))
    };
    assert_says(&with(&|t| t.key = "9".into()), &["tensor w", "no storage 9"]);
    assert_says(&with(&|t| t.count = 7), &["tensor w", "should have 28 bytes, but has 24"]);
    assert_says(&with(&|t| t.offset = 1), &["tensor w", "do not fit its storage"]);
    assert_says(&with(&|t| t.offset = -1), &["the offset, sizes and strides"]);
    assert_says(&with(&|t| t.shape = vec![2, i64::MAX]), &["tensor w", "do not fit its storage"]);
    assert_says(&with(&|t| t.stride = vec![i64::MAX, 1]), &["tensor w", "do not fit its storage"]);
    assert_says(&with(&|t| (t.shape, t.stride) = (vec![1 << 40, 1 << 40], vec![0, 0])), &["tensor w", "more than"]);
    assert_says(&with(&|t| (t.shape, t.stride) = (vec![0, i64::MAX], vec![1, 1])), &["tensor w", "more than"]);
    assert_says(&with(&|t| t.shape = vec![6]), &["the offset, sizes and strides"]);
    assert_says(&with(&|t| t.storage = "QInt8Storage"), &["torch.QInt8Storage"]);

    let twice = Pickle::new().state_dict(&[("w", good.clone()), ("w", good.clone())]);
    assert_says(&refused(&file(&twice, &[("0", &six())])), &["tensor w", "twice"]);
    assert_says(&refused(&file(&Pickle::new().op(b"}."), &[])), &["holds no tensor"]);
    assert_says(&refused(&file(&Pickle::new().op(b"K\x01."), &[])), &["holds an integer"]);
    assert_says(&refused(&file(&Pickle::new().op(b"h\x05."), &[])), &["recalls value 5"]);
    assert_says(&refused(&file(&Pickle::new().op(b"u."), &[])), &["no mark"]);
    assert_says(&refused(&file(&Pickle::new().op(b"."), &[])), &["stack is empty"]);
    assert_says(&refused(&file(&Pickle(vec![0x80, 9]), &[])), &["protocol 9"]);
    assert_says(&refused(b"not a checkpoint"), &["neither a zip archive nor PyTorch's magic number"]);
    assert_says(&refused(b""), &["neither a zip archive"]);

    let pickle = Pickle::new().state_dict(&[("w", good)]).0;
    let entries: [(&str, &[u8]); 2] = [("a/data.pkl", &pickle), ("a/data/0", &six())];
    let packed = archive_with(&entries, zip::CompressionMethod::Stored);
    assert!(open(&packed).is_ok());
    assert_says(&refused(&archive(&[("readme.txt", b"hello")])), &["holds no data.pkl"]);
    let big = archive(&[("a/data.pkl", &pickle), ("a/byteorder", b"big")]);
    assert_says(&refused(&big), &["byte order big", "not supported"]);
}

#[test]
fn deep_and_cyclic_values_cost_no_more_than_their_opcodes() {
    // A tuple in a tuple, a million deep; a list that holds itself.
    let deep = Pickle::new().op(b")").op(&[0x85].repeat(1 << 20)).op(b".");
    assert_says(&refused(&file(&deep, &[])), &["holds a tuple"]);
    let cyclic = Pickle::new().op(b"]q\x00h\x00a.");
    assert_says(&refused(&file(&cyclic, &[])), &["holds a list"]);
    let many = Pickle::new().op(&b"N".repeat((1 << 21) + 1)).op(b".");
    assert_says(&refused(&file(&many, &[])), &["more than 2097152 values"]);
    let marks = Pickle::new().op(&b"(".repeat((1 << 21) + 1)).op(b".");
    assert_says(&refused(&file(&marks, &[])), &["more than 2097152 marks"]);
    // Lengths that are announced and not there.
    for opcode in [&b"X\xff\xff\xff\xff"[..], b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", b"\x8b\xff\xff\xff\x7f"] {
        assert_says(&refused(&file(&Pickle::new().op(opcode), &[])), &["ends inside"]);
    }
}

/// The checkpoints that the reference wrote, in both containers.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    ["v1_legacy", "v2_views"]
        .map(|name| {
            let path = format!("{}/tests/data/meta/{name}/consolidated.00.pth", env!("CARGO_MANIFEST_DIR"));
            (name.to_owned(), std::fs::read(path).expect("the fixture is committed"))
        })
        .into()
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for (name, bytes) in fixtures() {
        let whole = open(&bytes).unwrap().tensors().len();
        let tail = bytes.len() - 4000..bytes.len();
        for end in (0..bytes.len()).filter(|end| *end < 6000 || tail.contains(end) || end % 97 == 0) {
            assert!(open(&bytes[..end]).is_err(), "{name} cut off at {end} of {} ({whole} tensors)", bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = open(&bytes);
        let _ = open(&file(&Pickle(bytes), &[("0", &six())]));
    }

    #[test]
    fn a_changed_pickle_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let tensors = [("a", Tensor::whole("FloatStorage", "0", &[2, 3])), ("b", Tensor::whole("HalfStorage", "0", &[12]))];
        let mut pickle = Pickle::new().state_dict(&tensors);
        for (at, byte) in &changes {
            let at = at.index(pickle.0.len());
            pickle.0[at] = *byte;
        }
        if let Ok(file) = open(&file(&pickle, &[("0", &six())])) {
            // Whatever was read can be read: every view lies inside its storage.
            for tensor in file.tensors() {
                let mut out = Vec::new();
                file.read_rows(tensor, 0, tensor.shape.first().copied().unwrap_or(1), &mut out).unwrap();
                prop_assert!(out.len() <= 24);
            }
        }
    }

    #[test]
    fn a_changed_file_is_read_or_refused(
        which in 0usize..2,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (_, mut bytes) = fixtures().swap_remove(which);
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let _ = open(&bytes);
    }
}
