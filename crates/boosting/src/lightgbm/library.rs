//! LightGBM's own shared library, loaded when first asked for: the functions of its C API that are used here, safely wrapped.
//!
//! # Source
//! `c_api.h` of LightGBM 4; the library is the one that Python's package ships.

use std::ffi::{CStr, CString, c_char, c_double, c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

use libloading::Library;

use crate::Error;

/// Names the library's file, where it is not found by name.
const VARIABLE: &str = "FORETIME_LIGHTGBM";
/// The file's name.
const FILE: &str = "lib_lightgbm.so";

const FLOAT32: c_int = 0;
const FLOAT64: c_int = 1;
const COLUMN_MAJOR: c_int = 0;
const RAW_SCORE: c_int = 1;
const BY_GAIN: c_int = 1;

type Handle = *mut c_void;

/// The functions, as `c_api.h` declares them.
struct Api {
    last_error: unsafe extern "C" fn() -> *const c_char,
    dataset_create: unsafe extern "C" fn(
        *const c_void,
        c_int,
        i32,
        i32,
        c_int,
        *const c_char,
        Handle,
        *mut Handle,
    ) -> c_int,
    dataset_set_field: unsafe extern "C" fn(Handle, *const c_char, *const c_void, c_int, c_int) -> c_int,
    dataset_free: unsafe extern "C" fn(Handle) -> c_int,
    booster_create: unsafe extern "C" fn(Handle, *const c_char, *mut Handle) -> c_int,
    booster_add_valid: unsafe extern "C" fn(Handle, Handle) -> c_int,
    booster_update: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    booster_eval: unsafe extern "C" fn(Handle, c_int, *mut c_int, *mut c_double) -> c_int,
    booster_save: unsafe extern "C" fn(Handle, c_int, c_int, c_int, i64, *mut i64, *mut c_char) -> c_int,
    booster_load: unsafe extern "C" fn(*const c_char, *mut c_int, *mut Handle) -> c_int,
    booster_features: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    booster_predict: unsafe extern "C" fn(
        Handle,
        *const c_void,
        c_int,
        i32,
        i32,
        c_int,
        c_int,
        c_int,
        c_int,
        *const c_char,
        *mut i64,
        *mut c_double,
    ) -> c_int,
    booster_importance: unsafe extern "C" fn(Handle, c_int, c_int, *mut c_double) -> c_int,
    booster_free: unsafe extern "C" fn(Handle) -> c_int,
    /// Keeps the code in memory.
    _library: Library,
}

/// The library, or why it cannot be had.
fn api() -> Result<&'static Api, Error> {
    static API: OnceLock<Result<Api, String>> = OnceLock::new();
    let loaded = API.get_or_init(|| {
        let file = std::env::var(VARIABLE).unwrap_or_else(|_| FILE.to_owned());
        Api::load(&file).map_err(|error| format!("`{file}`: {error}; name the file in {VARIABLE}"))
    });
    loaded.as_ref().map_err(|why| Error::NoLightGbm(why.clone()))
}

impl Api {
    fn load(file: &str) -> Result<Self, libloading::Error> {
        #[expect(unsafe_code, reason = "a shared library runs its own code when it is loaded")]
        // SAFETY: LightGBM's library has no initialiser besides those of the C++ runtime.
        let library = unsafe { Library::new(file)? };
        macro_rules! function {
            ($name:literal) => {{
                #[expect(unsafe_code, reason = "a symbol has the type that its header says")]
                // SAFETY: the field's type is the declaration in `c_api.h` of LightGBM 4.
                unsafe {
                    *library.get($name)?
                }
            }};
        }
        Ok(Self {
            last_error: function!(b"LGBM_GetLastError"),
            dataset_create: function!(b"LGBM_DatasetCreateFromMat"),
            dataset_set_field: function!(b"LGBM_DatasetSetField"),
            dataset_free: function!(b"LGBM_DatasetFree"),
            booster_create: function!(b"LGBM_BoosterCreate"),
            booster_add_valid: function!(b"LGBM_BoosterAddValidData"),
            booster_update: function!(b"LGBM_BoosterUpdateOneIter"),
            booster_eval: function!(b"LGBM_BoosterGetEval"),
            booster_save: function!(b"LGBM_BoosterSaveModelToString"),
            booster_load: function!(b"LGBM_BoosterLoadModelFromString"),
            booster_features: function!(b"LGBM_BoosterGetNumFeature"),
            booster_predict: function!(b"LGBM_BoosterPredictForMat"),
            booster_importance: function!(b"LGBM_BoosterFeatureImportance"),
            booster_free: function!(b"LGBM_BoosterFree"),
            _library: library,
        })
    }

    /// What a call returned: 0, or there is a message.
    fn checked(&self, code: c_int) -> Result<(), Error> {
        if code == 0 {
            return Ok(());
        }
        #[expect(unsafe_code, reason = "the library tells why in a text of its own")]
        // SAFETY: the text ends with 0 and stays until the next call on this thread.
        let said = unsafe { CStr::from_ptr((self.last_error)()) };
        Err(Error::LightGbm(said.to_string_lossy().into_owned()))
    }
}

fn text(parameters: &str) -> Result<CString, Error> {
    CString::new(parameters).map_err(|_| Error::LightGbm("a text with a 0 in it".to_owned()))
}

fn count(length: usize) -> Result<i32, Error> {
    i32::try_from(length).map_err(|_| Error::LightGbm(format!("{length} is more than LightGBM counts")))
}

/// Features column after column.
#[derive(Clone, Copy)]
pub(super) struct Features<'a> {
    values: &'a [f64],
    rows: i32,
    columns: i32,
}

impl<'a> Features<'a> {
    /// # Errors
    /// [`Error::LightGbm`] if there are not rows·columns values, or too many.
    pub(super) fn new(values: &'a [f64], rows: usize, columns: usize) -> Result<Self, Error> {
        if values.len() != rows * columns {
            let found = values.len();
            return Err(Error::LightGbm(format!("{found} values for {rows} rows of {columns} columns")));
        }
        Ok(Self { values, rows: count(rows)?, columns: count(columns)? })
    }
}

/// Rows that LightGBM has binned.
pub(super) struct Dataset {
    handle: Handle,
    rows: usize,
}

impl Dataset {
    /// Bins rows; `like` gives the bins of other rows instead.
    pub(super) fn new(
        features: Features<'_>,
        parameters: &str,
        like: Option<&Self>,
        (labels, weights): (&[f64], &[f64]),
    ) -> Result<Self, Error> {
        let (api, parameters, mut handle) = (api()?, text(parameters)?, null_mut());
        let like = like.map_or(null_mut(), |like| like.handle);
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: `Features` holds rows·columns numbers, `like` lives, and the text ends with 0.
        let code = unsafe {
            (api.dataset_create)(
                features.values.as_ptr().cast(),
                FLOAT64,
                features.rows,
                features.columns,
                COLUMN_MAJOR,
                parameters.as_ptr(),
                like,
                &raw mut handle,
            )
        };
        api.checked(code)?;
        let dataset = Self { handle, rows: features.rows as usize };
        dataset.set("label", labels)?;
        dataset.set("weight", weights)?;
        Ok(dataset)
    }

    fn set(&self, field: &str, values: &[f64]) -> Result<(), Error> {
        if values.len() != self.rows {
            return Err(Error::LightGbm(format!("{} of `{field}` for {} rows", values.len(), self.rows)));
        }
        let (api, field) = (api()?, text(field)?);
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: there is one number a row, which the library copies.
        let code = unsafe {
            let length = count(values.len())?;
            (api.dataset_set_field)(self.handle, field.as_ptr(), values.as_ptr().cast(), length, FLOAT32)
        };
        api.checked(code)
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        if let Ok(api) = api() {
            #[expect(unsafe_code, reason = "a call of the C API")]
            // SAFETY: the handle is ours, and nobody uses it afterwards: boosters borrow their datasets.
            unsafe {
                (api.dataset_free)(self.handle);
            }
        }
    }
}

/// Trees that grow on datasets, which live as long.
pub(super) struct Training<'a> {
    booster: Booster,
    _datasets: (&'a Dataset, Option<&'a Dataset>),
}

impl<'a> Training<'a> {
    pub(super) fn new(
        train: &'a Dataset,
        validation: Option<&'a Dataset>,
        parameters: &str,
    ) -> Result<Self, Error> {
        let (api, parameters, mut handle) = (api()?, text(parameters)?, null_mut());
        #[expect(unsafe_code, reason = "calls of the C API")]
        // SAFETY: both datasets live as long as the booster does.
        unsafe {
            api.checked((api.booster_create)(train.handle, parameters.as_ptr(), &raw mut handle))?;
        }
        let booster = Booster { handle };
        if let Some(validation) = validation {
            #[expect(unsafe_code, reason = "a call of the C API")]
            // SAFETY: as above.
            let code = unsafe { (api.booster_add_valid)(booster.handle, validation.handle) };
            api.checked(code)?;
        }
        Ok(Self { booster, _datasets: (train, validation) })
    }

    /// One more tree; true if none could be grown.
    pub(super) fn grow(&mut self) -> Result<bool, Error> {
        let (api, mut finished) = (api()?, 0);
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: the handle is ours.
        let code = unsafe { (api.booster_update)(self.booster.handle, &raw mut finished) };
        api.checked(code)?;
        Ok(finished == 1)
    }

    /// The one metric on the validation rows.
    pub(super) fn validation_loss(&self) -> Result<f64, Error> {
        let (api, mut length, mut found) = (api()?, 0, [f64::NAN; 8]);
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: the parameters name one metric, and there is room for eight.
        let code = unsafe { (api.booster_eval)(self.booster.handle, 1, &raw mut length, found.as_mut_ptr()) };
        api.checked(code)?;
        Ok(found[0])
    }

    /// The first trees as LightGBM's text.
    pub(super) fn text(&self, trees: usize) -> Result<String, Error> {
        self.booster.text(trees)
    }
}

/// Trees that predict.
pub(super) struct Booster {
    handle: Handle,
}

#[expect(
    unsafe_code,
    reason = "LightGBM's boosters may be moved between threads and predict on several at once"
)]
// SAFETY: a booster's memory is not bound to a thread.
unsafe impl Send for Booster {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: `c_api.cpp` guards prediction with a shared lock, and nothing else is called through a shared reference.
unsafe impl Sync for Booster {}

impl Booster {
    /// Reads LightGBM's text.
    pub(super) fn read(model: &str) -> Result<Self, Error> {
        let (api, model, mut handle, mut trees) = (api()?, text(model)?, null_mut(), 0);
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: the text ends with 0.
        let code = unsafe { (api.booster_load)(model.as_ptr(), &raw mut trees, &raw mut handle) };
        api.checked(code)?;
        Ok(Self { handle })
    }

    /// The number of features that a row has.
    pub(super) fn features(&self) -> Result<usize, Error> {
        let (api, mut found) = (api()?, 0);
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: the handle is ours.
        let code = unsafe { (api.booster_features)(self.handle, &raw mut found) };
        api.checked(code)?;
        Ok(usize::try_from(found).unwrap_or(0))
    }

    fn text(&self, trees: usize) -> Result<String, Error> {
        let (api, trees, mut length) = (api()?, count(trees)?, 0i64);
        let mut save = |room: i64, out: *mut c_char| {
            #[expect(unsafe_code, reason = "a call of the C API")]
            // SAFETY: at most `room` bytes are written.
            let code =
                unsafe { (api.booster_save)(self.handle, 0, trees, BY_GAIN, room, &raw mut length, out) };
            api.checked(code).map(|()| length)
        };
        let needed = save(0, null_mut())?;
        let mut buffer = vec![0u8; usize::try_from(needed).unwrap_or(0)];
        save(needed, buffer.as_mut_ptr().cast())?;
        buffer.pop(); // the 0 at the end
        String::from_utf8(buffer).map_err(|error| Error::LightGbm(error.to_string()))
    }

    /// The log-odds of each row.
    pub(super) fn predict(&self, features: Features<'_>) -> Result<Vec<f64>, Error> {
        let (api, known) = (api()?, self.features()?);
        if known != features.columns as usize {
            let found = features.columns;
            return Err(Error::LightGbm(format!("{found} columns for a model of {known}")));
        }
        let (mut length, mut odds) = (0i64, vec![0f64; features.rows as usize]);
        let parameters = text("")?;
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: `Features` holds rows·columns numbers, and one number a row is written: there are two classes.
        let code = unsafe {
            (api.booster_predict)(
                self.handle,
                features.values.as_ptr().cast(),
                FLOAT64,
                features.rows,
                features.columns,
                COLUMN_MAJOR,
                RAW_SCORE,
                0,
                -1,
                parameters.as_ptr(),
                &raw mut length,
                odds.as_mut_ptr(),
            )
        };
        api.checked(code)?;
        Ok(odds)
    }

    /// The gain of each feature.
    pub(super) fn gains(&self) -> Result<Vec<f64>, Error> {
        let (api, mut gains) = (api()?, vec![0f64; self.features()?]);
        #[expect(unsafe_code, reason = "a call of the C API")]
        // SAFETY: there is room for one number a feature.
        let code = unsafe { (api.booster_importance)(self.handle, 0, BY_GAIN, gains.as_mut_ptr()) };
        api.checked(code)?;
        Ok(gains)
    }
}

impl Drop for Booster {
    fn drop(&mut self) {
        if let Ok(api) = api() {
            #[expect(unsafe_code, reason = "a call of the C API")]
            // SAFETY: the handle is ours, and nobody uses it afterwards.
            unsafe {
                (api.booster_free)(self.handle);
            }
        }
    }
}
