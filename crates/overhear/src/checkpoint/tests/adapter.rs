//! An adapter that PEFT wrote, against the weights that PEFT merges it to: `tools/lora.py`.

use super::*;

/// An ulp of numbers below 1/2, which products and weights are: PEFT adds products in another order.
const TOLERANCE: f32 = f32::EPSILON / 4.0;

#[test]
fn an_adapter_is_merged_to_the_weights_of_peft() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lora");
    let checkpoint = Checkpoint::open_adapted(&folder, &nano()).unwrap();
    let file = fs::read(folder.join("merged.safetensors")).unwrap();
    let merged = ::safetensors::SafeTensors::deserialize(&file).unwrap();
    let expected = |name: &str| -> Vec<f32> {
        let numbers = merged.tensor(name).unwrap().data().as_chunks().0;
        numbers.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    for (name, huggingface, n_rows) in [
        (
            "decoder.blocks.0.cross_attn.query.weight",
            "model.decoder.layers.0.encoder_attn.q_proj.weight",
            128,
        ),
        (
            "encoder.blocks.1.mlp.0.weight",
            "model.encoder.layers.1.fc1.weight",
            512,
        ),
    ] {
        let matrix = widened(&checkpoint.matrix(&[name], n_rows, 128).unwrap());
        let found = &matrix[(n_rows - 2) * 128..];
        for (i, (found, expected)) in found.iter().zip(expected(huggingface)).enumerate() {
            assert!(
                (found - expected).abs() <= TOLERANCE,
                "{name}: {found} at {i}, expected {expected}"
            );
        }
    }
    let norm = checkpoint.vector("decoder.ln.weight", 128).unwrap();
    assert_eq!(norm, expected("model.decoder.layer_norm.weight"));
}
