//! Where tensors live: the processor, or a GPU in programs built with the feature `cuda`.
//!
//! A processor computes by our own kernels, a GPU by candle's composed operations, the reference that tests hold ours to.

use candle_core::Device;

use crate::Error;

/// The device of a name: `cpu`, or `cuda:0` for the first GPU.
///
/// # Errors
/// [`Error::Device`] for any other name, in a program that was built without CUDA, and for a GPU that does not answer.
pub fn open(name: &str) -> Result<Device, Error> {
    let refused = |reason: String| Error::Device { name: name.to_owned(), reason };
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let place = name.strip_prefix("cuda:").and_then(|place| place.parse().ok());
    let place = place.ok_or_else(|| refused("devices are `cpu`, `cuda:0`, `cuda:1` and on".to_owned()))?;
    Device::new_cuda(place).map_err(|error| match error {
        candle_core::Error::NotCompiledWithCudaSupport => {
            refused("this program was built without the Cargo feature `cuda`; say `cpu`".to_owned())
        }
        other => refused(format!("it does not answer: {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_and_others_are_refused_with_what_there_is() {
        assert!(open("cpu").unwrap().is_cpu());
        for name in ["gpu", "cuda", "cuda:", "cuda:-1", "cuda:first", "CPU", ""] {
            let said = open(name).unwrap_err().to_string();
            assert!(said.contains(&format!("`{name}`")) && said.contains("`cuda:0`"), "{said}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_cuda_says_so() {
        let said = open("cuda:0").unwrap_err().to_string();
        assert!(said.contains("without the Cargo feature `cuda`"), "{said}");
    }

    /// Runs itself only where a GPU answers; with FORETIME_TEST_GPU one must.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_gives_the_losses_and_the_gradients_of_the_processor() {
        use crate::layers::Noise;
        use crate::{Batch, Gpt, GptConfig, Kernels};

        let gpu = match open("cuda:0") {
            Ok(gpu) => gpu,
            Err(error) if std::env::var_os("FORETIME_TEST_GPU").is_some() => panic!("{error}"),
            Err(_) => return,
        };
        let config = GptConfig { vocabulary: 23, context: 12, width: 32, ..GptConfig::default() };
        let batch = Batch::new([&[1u32, 5, 9, 22, 4][..], &[3, 3, 7]]).unwrap();
        let [here, there] = [Device::Cpu, gpu].map(|device| {
            let gpt = Gpt::with_kernels(config.clone(), 1, &device, Kernels::Reference).unwrap();
            let (loss, gradients) = gpt.gradients(&batch, &mut Noise::off(), 1.0, false).unwrap();
            let numbers =
                gpt.parameters().entries().iter().map(|(_, var)| {
                    gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
                });
            (loss, numbers.collect::<Vec<_>>().concat())
        });
        assert!((here.0 - there.0).abs() < 1e-4 * here.0, "{} {}", here.0, there.0);
        assert!(here.1.iter().zip(&there.1).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + a.abs())));
    }
}
