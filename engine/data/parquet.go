package data

import (
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// The bounds of a Parquet file, whose few bytes may say that a value comes a billion
// times: what its rows take, unpacked, for each byte of the file, and at least.
const (
	parquetRatio = 64
	parquetFloor = 64 << 20
)

// readParquet reads the rows of a Parquet file as objects: columns of strings,
// numbers, booleans, lists and groups.
func readParquet(from io.Reader, size int64, each func(object) error) (err error) {
	file, ok := from.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("a Parquet file must be a file: %w", ErrFormat)
	}
	defer recovered(&err)
	budget := parquetFloor + parquetRatio*size
	footer, err := checkFooter(file, size)
	if err != nil {
		return err
	}
	f, err := parquet.OpenFile(file, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrFormat)
	}
	if err := checkPages(file, footer, f.Metadata().RowGroups, budget); err != nil {
		return err
	}
	p := &parquetRows{schema: f.Schema(), budget: budget, each: each}
	for _, group := range f.RowGroups() {
		if err := p.group(group); err != nil {
			return err
		}
	}
	return nil
}

// parquetRows passes rows on.
type parquetRows struct {
	schema *parquet.Schema
	budget int64
	number int
	each   func(object) error
}

func (p *parquetRows) group(group parquet.RowGroup) error {
	rows := group.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 16)
	for {
		n, err := rows.ReadRows(buf)
		for _, row := range buf[:n] {
			p.number++
			if err := p.row(row); err != nil {
				return fmt.Errorf("row %d: %w", p.number, err)
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("row %d: %w: %w", p.number+1, err, ErrFormat)
		case n == 0:
			return fmt.Errorf("row %d is missing: %w", p.number+1, ErrFormat)
		}
	}
}

func (p *parquetRows) row(row parquet.Row) error {
	for _, v := range row {
		p.budget -= 48 // what a value takes at least
		switch v.Kind() {
		case parquet.ByteArray, parquet.FixedLenByteArray:
			p.budget -= int64(len(v.ByteArray()))
		}
	}
	if p.budget < 0 {
		return fmt.Errorf("the rows take more than %d times the file's size: %w", parquetRatio, ErrFormat)
	}
	values := map[string]any{}
	if err := p.schema.Reconstruct(&values, row); err != nil {
		return fmt.Errorf("%w: %w", err, ErrFormat)
	}
	o := make(object, len(values))
	for name, v := range values {
		if !validText(v) {
			return fmt.Errorf("column %.40q: not UTF-8: %w", name, ErrFormat)
		}
		raw, err := json.Marshal(v)
		if err != nil { // a number that is none, a kind that is not of JSON
			raw = json.RawMessage("null")
		}
		o[name] = raw
	}
	return p.each(o)
}

func validText(v any) bool {
	switch v := v.(type) {
	case string:
		return utf8.ValidString(v)
	case []any:
		for _, x := range v {
			if !validText(x) {
				return false
			}
		}
	case map[string]any:
		for _, x := range v {
			if !validText(x) {
				return false
			}
		}
	}
	return true
}
