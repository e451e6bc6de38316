//! What can be set of the cost meter: the prices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storage::cost::Prices;

use super::load::OptionsError;

/// What the bucket asks for. Shown by `streamhouse cost` and in the metrics, and used by budgets given in money.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CostSection {
    /// Prices to begin with: `s3-standard`, `s3-express` or `free`. If not set, `s3-standard` with a bucket, `free` without.
    pub prices: Option<String>,
    /// USD for 1,000 PUT or LIST requests.
    pub put_per_1000: Option<f64>,
    /// USD for 1,000 GET or HEAD requests.
    pub get_per_1000: Option<f64>,
    /// USD for a GB kept a month.
    pub storage_gb_month: Option<f64>,
    /// USD for a GB sent to the bucket.
    pub upload_gb: Option<f64>,
    /// USD for a GB read from the bucket.
    pub download_gb: Option<f64>,
}

impl CostSection {
    /// The prices in force.
    pub fn prices(&self, has_bucket: bool) -> Result<Prices, OptionsError> {
        let wrong = |key: &str, reason: &str| OptionsError::Value { key: format!("cost.{key}"), reason: reason.into() };
        let name = self.prices.as_deref().unwrap_or(if has_bucket { "s3-standard" } else { "free" });
        let named = Prices::named(name);
        let mut prices = named.ok_or_else(|| wrong("prices", "must be s3-standard, s3-express or free"))?;
        let set = [
            ("put-per-1000", self.put_per_1000, &mut prices.put_per_1000),
            ("get-per-1000", self.get_per_1000, &mut prices.get_per_1000),
            ("storage-gb-month", self.storage_gb_month, &mut prices.storage_gb_month),
            ("upload-gb", self.upload_gb, &mut prices.upload_gb),
            ("download-gb", self.download_gb, &mut prices.download_gb),
        ];
        for (key, value, price) in set {
            let Some(value) = value else { continue };
            if !(value >= 0.0 && value.is_finite()) {
                return Err(wrong(key, "must be a price, 0 or more"));
            }
            *price = value;
        }
        Ok(prices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_follow_the_place_the_word_and_the_numbers() {
        let section = CostSection::default();
        assert_eq!(section.prices(true).unwrap(), Prices::STANDARD);
        assert_eq!(section.prices(false).unwrap(), Prices::FREE);
        let express = CostSection { prices: Some("s3-express".into()), get_per_1000: Some(0.5), ..section };
        assert_eq!(express.prices(true).unwrap(), Prices { get_per_1000: 0.5, ..Prices::EXPRESS });
        let wrong = CostSection { prices: Some("azure".into()), ..CostSection::default() };
        assert!(wrong.prices(true).unwrap_err().to_string().contains("`cost.prices`"));
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let wrong = CostSection { upload_gb: Some(bad), ..CostSection::default() };
            assert!(wrong.prices(true).unwrap_err().to_string().contains("`cost.upload-gb`"));
        }
    }
}
