//! A trained model as files: weights that PyTorch opens, and a manifest that says what they are.
//!
//! ```text
//! <folder>/weights.safetensors   every parameter under PyTorch's name and shape, f32
//! <folder>/manifest.json         the job, the input's shape, metrics, versions, checksums
//! <folder>/_SUCCESS              written last, by whoever moves the folder to its place
//! ```

use crate::Misfortune;
use ringspin_control::messages::FailureKind;
use ringspin_control::status::Metrics;
use ringspin_data::storage::{Location, Storage, WriteOptions};
use ringspin_job::JobSpec;
use ringspin_nn::Model;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// File with the weights.
pub const WEIGHTS: &str = "weights.safetensors";
/// File that describes them.
pub const MANIFEST: &str = "manifest.json";
/// Version of the manifest; readers refuse later ones.
pub const MANIFEST_VERSION: u32 = 1;
/// A manifest is some kilobytes; a larger one is something else.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Weights of more than this are refused before they are read: 32 GiB.
const MAX_WEIGHTS_BYTES: u64 = 32 << 30;

/// What a model's files are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `ringspin-model`.
    pub kind: String,
    /// Version of this description.
    pub version: u32,
    /// Version of Ringspin that wrote it.
    pub ringspin: String,
    /// Application or local run that trained it.
    pub application: String,
    /// Shape of an input record, channels last.
    pub input: Vec<usize>,
    /// Shape of an output record.
    pub output: Vec<usize>,
    /// Steps it was trained: of the best validation with `keep_best`.
    pub steps: u64,
    /// Epochs it was trained.
    pub epochs: u64,
    /// Training metrics of the last of these epochs.
    pub training: Option<Metrics>,
    /// Validation metrics of the last of these epochs that was validated.
    pub validation: Option<Metrics>,
    /// Bytes of the weights file.
    pub weights_bytes: u64,
    /// SHA-256 of the weights file, hexadecimal.
    pub weights_sha256: String,
    /// The resolved job that trained it.
    pub job: JobSpec,
}

/// Writes a model into `folder`.
///
/// # Errors
/// Storage errors, and weights that can not be expressed (which a built model's can).
pub async fn write(
    storage: &Storage,
    folder: &Location,
    model: &Model,
    params: &[f32],
    mut manifest: Manifest,
) -> Result<(), Misfortune> {
    let weights = encode(model, params)?;
    manifest.weights_bytes = weights.len() as u64;
    manifest.weights_sha256 = hex(&Sha256::digest(&weights));
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Misfortune::new(FailureKind::Panic, format!("manifest: {error}")))?;
    // The folder is the AM's: where it is gone, a newer attempt has taken the output over.
    let options = WriteOptions { create_parents: false, ..WriteOptions::default() };
    storage.write(&folder.join(WEIGHTS), weights.into(), options).await?;
    storage.write(&folder.join(MANIFEST), text.into(), options).await?;
    Ok(())
}

fn encode(model: &Model, params: &[f32]) -> Result<Vec<u8>, Misfortune> {
    let broken = |error: safetensors::SafeTensorError| {
        Misfortune::new(FailureKind::Panic, format!("weights can not be encoded: {error}"))
    };
    let bytes: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
    let views = model
        .parameters()
        .iter()
        .map(|parameter| {
            let data = &bytes[parameter.range.start * 4..parameter.range.end * 4];
            Ok((parameter.name.clone(), TensorView::new(Dtype::F32, parameter.shape.clone(), data)?))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(broken)?;
    safetensors::serialize(views, None).map_err(broken)
}

/// Reads the manifest of a model.
///
/// # Errors
/// No such folder, a folder that is no complete model, or one that a later version wrote.
pub async fn read_manifest(storage: &Storage, folder: &Location) -> Result<Manifest, Misfortune> {
    let at = folder.join(MANIFEST);
    let bytes = storage.read(&at, MAX_MANIFEST_BYTES).await?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("{at}: is no manifest of a Ringspin model: {error}");
        Misfortune::new(FailureKind::Job, message)
    })?;
    if manifest.kind != "ringspin-model" || manifest.version > MANIFEST_VERSION {
        let message = format!(
            "{at}: {} of version {}; this is ringspin {}, which reads ringspin-model up to version {MANIFEST_VERSION}",
            manifest.kind,
            manifest.version,
            env!("CARGO_PKG_VERSION"),
        );
        return Err(Misfortune::new(FailureKind::Job, message));
    }
    Ok(manifest)
}

/// Reads the weights of a model into its flat buffer.
///
/// # Errors
/// Weights that are damaged (checksum), or not those of `model`: the first difference is named.
pub async fn read_weights(
    storage: &Storage,
    folder: &Location,
    manifest: &Manifest,
    model: &Model,
) -> Result<Vec<f32>, Misfortune> {
    let at = folder.join(WEIGHTS);
    let wrong = |message: String| Misfortune::new(FailureKind::Job, format!("{at}: {message}"));
    let length = storage.stat(&at).await?.length;
    if length != manifest.weights_bytes {
        return Err(wrong(format!("{length} bytes, the manifest says {}", manifest.weights_bytes)));
    }
    // Before anything is allocated that large.
    if length < 4 * model.parameter_count() as u64 {
        return Err(wrong(format!("{length} bytes for {} parameters", model.parameter_count())));
    }
    let bytes = storage.read(&at, MAX_WEIGHTS_BYTES).await?;
    if hex(&Sha256::digest(&bytes)) != manifest.weights_sha256 {
        return Err(wrong("is damaged: its SHA-256 is not the manifest's".into()));
    }
    decode(&bytes, model).map_err(wrong)
}

fn decode(bytes: &[u8], model: &Model) -> Result<Vec<f32>, String> {
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|error| format!("is no safetensors file: {error}"))?;
    let mut params = ringspin_nn::zeros(model.parameter_count());
    for parameter in model.parameters() {
        let name = &parameter.name;
        let tensor = tensors.tensor(name).map_err(|_| format!("has no tensor {name}"))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != parameter.shape {
            let (dtype, shape) = (tensor.dtype(), tensor.shape());
            return Err(format!("{name} is {dtype:?} {shape:?}, the model needs F32 {:?}", parameter.shape));
        }
        for (value, bytes) in params[parameter.range.clone()].iter_mut().zip(tensor.data().chunks_exact(4)) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    Ok(params)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
