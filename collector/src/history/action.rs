//! What a Delta log says, line by line.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// One line of a commit. Unknown actions read as none of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// What a reader and a writer must be able to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    /// A file becomes live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    /// A file stops being live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    /// How far an application has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
}

/// See [`Action::protocol`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// Ours is 1.
    pub min_reader_version: i64,
    /// Ours is 2.
    pub min_writer_version: i64,
}

/// See [`Action::meta_data`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaData {
    /// A UUID.
    pub id: String,
    /// Always Parquet.
    pub format: Format,
    /// The schema, as JSON in a string.
    pub schema_string: String,
    /// Columns that stand in the folders' names.
    pub partition_columns: Vec<String>,
    /// Table properties.
    #[serde(default, deserialize_with = "null_as_default")]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

/// See [`MetaData::format`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// `parquet`.
    pub provider: String,
    /// None.
    #[serde(default, deserialize_with = "null_as_default")]
    pub options: BTreeMap<String, String>,
}

/// See [`Action::add`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Below the table's folder, percent-encoded.
    pub path: String,
    /// As in the path.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since the epoch.
    pub modification_time: i64,
    /// Whether it brings new rows (a compaction does not).
    pub data_change: bool,
    /// [`Stats`] as JSON in a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// What its writer has to say besides; ours says [`CHECKSUM`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

/// Name of the tag with the CRC-32C of the whole file, 8 hex digits.
pub const CHECKSUM: &str = "skep.crc32c";

impl Add {
    /// CRC-32C of the whole file, where its writer said.
    pub fn checksum(&self) -> Option<u32> {
        u32::from_str_radix(self.tags.as_ref()?.get(CHECKSUM)?.as_deref()?, 16).ok()
    }
}

/// What is known of a file's rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Rows.
    pub num_records: i64,
    /// Smallest value by column; ours hold `time` only.
    #[serde(default)]
    pub min_values: BTreeMap<String, serde_json::Value>,
    /// Largest value by column.
    #[serde(default)]
    pub max_values: BTreeMap<String, serde_json::Value>,
}

/// See [`Action::remove`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    /// As in [`Add::path`].
    pub path: String,
    /// Whether rows go (a compaction keeps them elsewhere).
    #[serde(default, deserialize_with = "null_as_default")]
    pub data_change: bool,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
}

/// See [`Action::txn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    /// Which application; ours is the collector's id.
    pub app_id: String,
    /// How far; ours is the last WAL segment.
    pub version: i64,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// Checkpoints hold an empty map as null now and then.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}
