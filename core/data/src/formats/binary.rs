//! Records of one length, with the label in front of the values, in a file of its own, or absent.

use super::normalise::Normaliser;
use super::{BadRecord, Element};
use serde::{Deserialize, Serialize};

/// Where the label of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelPlace {
    /// Nowhere.
    None,
    /// In front of the values.
    Front(Element),
    /// At the same number in the labels file.
    Apart(Element),
}

/// Geometry of a binary record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryCodec {
    /// Type of the values.
    pub element: Element,
    /// Values of a record.
    pub values: usize,
    /// Channels, when they lie before height and width; 0: channels last.
    pub planes: usize,
    /// Where the label is.
    pub label: LabelPlace,
}

impl BinaryCodec {
    /// Bytes of one record in its file.
    pub fn record_bytes(&self) -> usize {
        self.front_bytes() + self.values * self.element.bytes()
    }

    /// Bytes of one label in the labels file; 0 when there is no such file.
    pub fn label_bytes(&self) -> usize {
        match self.label {
            LabelPlace::Apart(element) => element.bytes(),
            _ => 0,
        }
    }

    fn front_bytes(&self) -> usize {
        match self.label {
            LabelPlace::Front(element) => element.bytes(),
            _ => 0,
        }
    }

    /// Whether the bytes are those of `records` records: after this, decoding can not run out of them.
    pub(super) fn check(&self, bytes: &[u8], labels: &[u8], records: u32) -> Result<(), BadRecord> {
        let expected = (records as usize * self.record_bytes(), records as usize * self.label_bytes());
        if (bytes.len(), labels.len()) == expected {
            return Ok(());
        }
        Err(BadRecord::new(format!(
            "{} bytes and {} bytes of labels where {records} records take {} and {}",
            bytes.len(),
            labels.len(),
            expected.0,
            expected.1
        )))
    }

    /// Writes the inputs of record number `record` to `out` and gives back its label (0 without one).
    pub(super) fn decode(
        &self,
        bytes: &[u8],
        labels: &[u8],
        record: usize,
        normalise: &Normaliser,
        out: &mut [f32],
    ) -> Result<f64, BadRecord> {
        let record_bytes = &bytes[record * self.record_bytes()..][..self.record_bytes()];
        let values = &record_bytes[self.front_bytes()..];
        match (self.element, self.planes) {
            (Element::U8, 0) => normalise.bytes(values, out),
            (Element::U8, planes) => normalise.planes(values, planes, out),
            (element, planes) => {
                self.numbers(element, planes.max(1), values, out)?;
                normalise.values(out);
            }
        }
        Ok(match self.label {
            LabelPlace::None => 0.0,
            LabelPlace::Front(element) => element.read(record_bytes),
            LabelPlace::Apart(element) => element.read(&labels[record * element.bytes()..]),
        })
    }

    fn numbers(
        &self,
        element: Element,
        planes: usize,
        values: &[u8],
        out: &mut [f32],
    ) -> Result<(), BadRecord> {
        let place = Weave { planes, plane: self.values / planes };
        match element {
            // Chosen once for a record, not once for a value.
            Element::F32Le => place.fill(values, out, f32::from_le_bytes),
            Element::F32Be => place.fill(values, out, f32::from_be_bytes),
            Element::F64Be => place.fill(values, out, |bytes| f64::from_be_bytes(bytes) as f32),
            Element::U8 => place.fill(values, out, |[byte]| f32::from(byte)),
            Element::I8 => place.fill(values, out, |[byte]| f32::from(byte as i8)),
            Element::I16Be => place.fill(values, out, |bytes| f32::from(i16::from_be_bytes(bytes))),
            Element::U16Be => place.fill(values, out, |bytes| f32::from(u16::from_be_bytes(bytes))),
            Element::I32Be => place.fill(values, out, |bytes| i32::from_be_bytes(bytes) as f32),
            Element::U32Be => place.fill(values, out, |bytes| u32::from_be_bytes(bytes) as f32),
        }
        match out.iter().position(|number| !number.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let number = out[at];
                let value = place.source(at);
                Err(BadRecord::new(format!("value {value} is {number}; inputs have to be finite")))
            }
        }
    }
}

/// From the order in a file to channels last.
#[derive(Clone, Copy)]
struct Weave {
    /// Channels that lie one after the other; 1 when values lie as they should.
    planes: usize,
    /// Values of each.
    plane: usize,
}

impl Weave {
    fn fill<const N: usize>(self, values: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
        let (values, _) = values.as_chunks::<N>();
        for (plane, values) in values.chunks(self.plane).enumerate() {
            let out = out[plane..].iter_mut().step_by(self.planes);
            out.zip(values).for_each(|(out, bytes)| *out = read(*bytes));
        }
    }

    /// Number in the file of the value at a place of the output.
    fn source(self, at: usize) -> usize {
        at % self.planes * self.plane + at / self.planes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Codec, Decoder, LabelRule, Normalisation, RecordSchema, TargetKind, Targets};
    use super::*;

    fn decode(codec: BinaryCodec, bytes: Vec<u8>, labels: Vec<u8>, count: u32) -> (Vec<f32>, Targets) {
        let schema = RecordSchema { shape: vec![codec.values], target: TargetKind::Class, targets: 1 };
        let values = codec.values;
        let rule = LabelRule { classes: Some(300), ignored: None };
        let decoder = Decoder::new(Codec::Binary(codec), schema, &Normalisation::default(), rule).unwrap();
        let data = decoder.prepare(bytes.into(), labels.into(), count).unwrap();
        let mut out = vec![0.0; values * count as usize];
        let mut targets = Targets::new(TargetKind::Class);
        for (i, out) in out.chunks_mut(values).enumerate() {
            decoder.decode(&data, i as u32, out, &mut targets, &mut Default::default()).unwrap();
        }
        (out, targets)
    }

    #[test]
    fn labels_are_found_wherever_they_lie() {
        let codec = |label| BinaryCodec { element: Element::U8, values: 2, planes: 0, label };
        let (out, targets) =
            decode(codec(LabelPlace::Front(Element::U16Be)), vec![1, 2, 0, 255, 0, 7, 51, 0], vec![], 2);
        assert_eq!(out, [0.0, 1.0, 0.2, 0.0]);
        assert_eq!(targets, Targets::Classes(vec![258, 7]));
        let (out, targets) =
            decode(codec(LabelPlace::Apart(Element::U8)), vec![0, 255, 51, 0], vec![3, 4], 2);
        assert_eq!((out, targets), (vec![0.0, 1.0, 0.2, 0.0], Targets::Classes(vec![3, 4])));
    }

    #[test]
    fn a_record_to_reconstruct_is_its_own_target() {
        // after the normalisation, and whatever the label says
        let codec =
            BinaryCodec { element: Element::U8, values: 2, planes: 0, label: LabelPlace::Front(Element::U8) };
        let schema = RecordSchema { shape: vec![2], target: TargetKind::Record, targets: 2 };
        let normalise = Normalisation { mean: vec![0.2], std: vec![0.5] };
        let rule = LabelRule { classes: Some(1), ignored: None };
        let decoder = Decoder::new(Codec::Binary(codec), schema, &normalise, rule).unwrap();
        let data = decoder.prepare(vec![9, 51, 255].into(), vec![].into(), 1).unwrap();
        let (mut out, mut targets) = ([0.0; 2], Targets::new(TargetKind::Record));
        decoder.decode(&data, 0, &mut out, &mut targets, &mut Default::default()).unwrap();
        assert!(out[0].abs() < 1e-6 && (out[1] - 1.6).abs() < 1e-6, "{out:?}");
        assert_eq!(targets, Targets::Values(out.to_vec()));
    }

    #[test]
    fn planes_are_woven_together_for_every_type() {
        // 2 channels of 1 x 3
        let codec = BinaryCodec { element: Element::F32Le, values: 6, planes: 2, label: LabelPlace::None };
        let bytes = [1.0f32, 2.0, 3.0, 10.0, 20.0, 30.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(decode(codec, bytes, vec![], 1).0, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let codec = BinaryCodec { element: Element::U8, values: 6, planes: 2, label: LabelPlace::None };
        assert_eq!(decode(codec, vec![0, 51, 255, 255, 0, 51], vec![], 1).0, [0.0, 1.0, 0.2, 0.0, 1.0, 0.2]);
    }

    #[test]
    fn wrong_sizes_and_values_are_refused() {
        let codec = BinaryCodec { element: Element::F32Le, values: 1, planes: 0, label: LabelPlace::None };
        assert!(codec.check(&[0; 7], &[], 2).unwrap_err().message.contains("2 records take 8"));
        let normalise = Normaliser::new(&Normalisation::default(), 1).unwrap();
        let nan = f32::NAN.to_le_bytes();
        let bad = codec.decode(&nan, &[], 0, &normalise, &mut [0.0]).unwrap_err();
        assert!(bad.message.contains("value 0 is NaN"), "{}", bad.message);
    }
}
