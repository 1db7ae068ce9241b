//! Translation of tensor names to those of openai/whisper, and back to Hugging Face's.

use super::OUTPUT;

/// Returns openai/whisper's name of the tensor that a file calls `name`. Names of Hugging Face are translated, with or
/// without the prefix `model.`. Names of openai/whisper are returned unchanged, and so is the output matrix `proj_out`,
/// which openai/whisper does not have.
pub(super) fn openai_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let name = name
        .strip_suffix("embed_positions.weight")
        .map_or_else(|| name.into(), |s| format!("{s}positional_embedding"));
    let final_norm = if name.starts_with("encoder.") {
        "ln_post"
    } else {
        "ln"
    };
    let parts = name.split('.').map(|part| match part {
        "layers" => "blocks",
        "self_attn" => "attn",
        "encoder_attn" => "cross_attn",
        "q_proj" => "query",
        "k_proj" => "key",
        "v_proj" => "value",
        "out_proj" => "out",
        "fc1" => "mlp.0",
        "fc2" => "mlp.2",
        "self_attn_layer_norm" => "attn_ln",
        "encoder_attn_layer_norm" => "cross_attn_ln",
        "final_layer_norm" => "mlp_ln",
        "layer_norm" => final_norm,
        "embed_tokens" => "token_embedding",
        other => other,
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Converts openai/whisper's name of a tensor to Hugging Face's.
pub(crate) fn huggingface_name(name: &str) -> String {
    if name == OUTPUT {
        return name.to_owned();
    }
    let (name, attention) = match name.contains(".cross_attn") {
        true => (name.replace(".cross_attn", ".attn"), "encoder_attn"),
        false => (name.to_owned(), "self_attn"),
    };
    let name = name.replace("mlp.0", "fc1").replace("mlp.2", "fc2");
    let parts = name.split('.').map(|part| match part {
        "blocks" => "layers".to_owned(),
        "attn" => attention.to_owned(),
        "attn_ln" => format!("{attention}_layer_norm"),
        "mlp_ln" => "final_layer_norm".to_owned(),
        "ln_post" | "ln" => "layer_norm".to_owned(),
        "query" => "q_proj".to_owned(),
        "key" => "k_proj".to_owned(),
        "value" => "v_proj".to_owned(),
        "out" => "out_proj".to_owned(),
        "token_embedding" => "embed_tokens".to_owned(),
        "positional_embedding" => "embed_positions.weight".to_owned(),
        other => other.to_owned(),
    });
    format!("model.{}", parts.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::{OUTPUT, huggingface_name, openai_name};

    #[test]
    fn every_kind_of_tensor_has_its_openai_name() {
        let cases = [
            ("encoder.conv1.weight", "encoder.conv1.weight"),
            (
                "encoder.embed_positions.weight",
                "encoder.positional_embedding",
            ),
            (
                "encoder.layers.3.self_attn.q_proj.bias",
                "encoder.blocks.3.attn.query.bias",
            ),
            (
                "encoder.layers.3.self_attn_layer_norm.weight",
                "encoder.blocks.3.attn_ln.weight",
            ),
            (
                "encoder.layers.11.fc1.weight",
                "encoder.blocks.11.mlp.0.weight",
            ),
            (
                "encoder.layers.11.final_layer_norm.bias",
                "encoder.blocks.11.mlp_ln.bias",
            ),
            ("encoder.layer_norm.weight", "encoder.ln_post.weight"),
            (
                "decoder.embed_tokens.weight",
                "decoder.token_embedding.weight",
            ),
            (
                "decoder.embed_positions.weight",
                "decoder.positional_embedding",
            ),
            (
                "decoder.layers.0.encoder_attn.k_proj.weight",
                "decoder.blocks.0.cross_attn.key.weight",
            ),
            (
                "decoder.layers.0.encoder_attn.out_proj.bias",
                "decoder.blocks.0.cross_attn.out.bias",
            ),
            (
                "decoder.layers.0.encoder_attn_layer_norm.bias",
                "decoder.blocks.0.cross_attn_ln.bias",
            ),
            ("decoder.layers.0.fc2.bias", "decoder.blocks.0.mlp.2.bias"),
            ("decoder.layer_norm.bias", "decoder.ln.bias"),
        ];
        for (huggingface, openai) in cases {
            assert_eq!(openai_name(huggingface), openai);
            assert_eq!(openai_name(&format!("model.{huggingface}")), openai);
            assert_eq!(huggingface_name(openai), format!("model.{huggingface}"));
            assert_eq!(
                openai_name(openai),
                openai,
                "openai's own names are unchanged"
            );
        }
        assert_eq!(openai_name(OUTPUT), "proj_out.weight");
        assert_eq!(huggingface_name(OUTPUT), "proj_out.weight");
    }
}
