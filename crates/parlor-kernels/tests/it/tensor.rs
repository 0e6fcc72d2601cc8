//! Tensors: checked shapes, conversions that round to nearest even, mapped files with and without alignment.

use std::io::Write as _;
use std::sync::Arc;

use half::{bf16, f16};
use parlor_kernels::{DType, MappedFile, Tensor, TensorError};

#[test]
fn shapes_are_checked() {
    let error = Tensor::from_f32(&[2, 3], vec![0.0; 5]).unwrap_err();
    assert_eq!(error, TensorError::Length { shape: vec![2, 3], expected: 6, found: 5 });
    assert_eq!(error.to_string(), "a tensor of shape [2, 3] holds 6 elements, but 5 were given");
    assert!(matches!(Tensor::from_f32(&[usize::MAX, 2], vec![]), Err(TensorError::TooLarge { .. })));
    assert!(Tensor::from_f32(&[0, 7], vec![]).unwrap().is_empty());
}

#[test]
fn conversions_round_to_nearest_even() {
    let values = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -65519.0, 1e-8, f32::INFINITY, 3.4e38];
    let tensor = Tensor::from_f32(&[7], values.to_vec()).unwrap();
    let narrow = |dtype| tensor.to_dtype(dtype).to_f32_vec();
    assert_eq!(narrow(DType::Bf16), values.map(|x| bf16::from_f32(x).to_f32()));
    assert_eq!(narrow(DType::F16), values.map(|x| f16::from_f32(x).to_f32()));
    assert_eq!(narrow(DType::Bf16)[1..3], [1.0, 1.0 + 4.0 / 256.0]);
    assert!(Tensor::from_f32(&[1], vec![f32::NAN]).unwrap().to_dtype(DType::Bf16).to_f32_vec()[0].is_nan());
}

#[test]
fn mapped_ranges_are_checked_and_unaligned_ones_copied() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bytes");
    let values = [1.5f32, -2.0, 3.25];
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&[0; 8]).unwrap();
    for shift in 0..2 {
        file.write_all(&vec![0u8; shift]).unwrap();
        file.write_all(bytemuck::cast_slice(&values)).unwrap();
    }
    drop(file);
    let map = Arc::new(MappedFile::open(&path).unwrap());
    let aligned = Tensor::mapped(&map, 8..20, &[3], DType::F32).unwrap();
    assert_eq!((aligned.as_f32().unwrap(), aligned.owned_bytes()), (&values[..], 0));
    let unaligned = Tensor::mapped(&map, 21..33, &[3], DType::F32).unwrap();
    assert_eq!((unaligned.as_f32().unwrap(), unaligned.owned_bytes()), (&values[..], 12));
    assert_eq!(unaligned.bytes(), aligned.bytes());
    assert!(matches!(Tensor::mapped(&map, 30..42, &[3], DType::F32), Err(TensorError::OutOfFile { .. })));
    assert!(matches!(Tensor::mapped(&map, 8..20, &[4], DType::F32), Err(TensorError::Length { .. })));
}
