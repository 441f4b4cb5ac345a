package data

import "encoding/json"

// EachRow calls each with the rows of a file of records, whatever their columns: values
// are as they stand in JSON. The map is each's only during the call. Files are those that
// [ReadRecords] knows, but for plain text.
func EachRow(path string, each func(row map[string]json.RawMessage) error) error {
	read, err := readerOf(path)
	if err != nil {
		return err
	}
	return eachObject(path, read, func(o object) error { return each(o) })
}
