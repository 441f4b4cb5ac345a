package fitting

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"gonum.org/v1/gonum/mat"

	"tare/engine/data"
	"tare/engine/nearest"
)

// ErrTable marks a file that is no table, or lacks what was asked of it.
var ErrTable = errors.New("unfit table")

// Sheet is a file's columns as text. A cell that says nothing is "".
type Sheet struct {
	Path  string
	Names []string
	Cells [][]string // by column, then row
	Lines []int      // of the file, for each row; rows of Parquet count from 1
}

// missingWords stand for a value that is missing, beside an empty cell.
var missingWords = []string{"NA", "N/A", "NaN", "nan", "null", "NULL", "None"}

// ReadSheet reads .csv and .tsv, whose first line names the columns, and .jsonl, .json and
// .parquet, whose columns come in the order of their names.
func ReadSheet(path string) (*Sheet, error) {
	t := &Sheet{Path: path}
	var err error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		err = t.readCSV(',')
	case ".tsv", ".tab":
		err = t.readCSV('\t')
	default:
		err = t.readObjects()
	}
	if err != nil {
		return nil, fmt.Errorf("fitting: %s: %w", path, err)
	}
	if len(t.Lines) == 0 {
		return nil, fmt.Errorf("fitting: %s: %w: it has no rows", path, ErrTable)
	}
	for c := range t.Cells {
		for i, v := range t.Cells[c] {
			v = strings.TrimSpace(v)
			if slices.Contains(missingWords, v) {
				v = ""
			}
			t.Cells[c][i] = v
		}
	}
	return t, nil
}

func (t *Sheet) readCSV(comma rune) error {
	f, err := os.Open(t.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	if mark, err := in.Peek(3); err == nil && string(mark) == "\uFEFF" {
		in.Discard(3)
	}
	rows := csv.NewReader(in)
	rows.Comma, rows.LazyQuotes = comma, comma == '\t'
	head, err := rows.Read()
	if err == io.EOF {
		return fmt.Errorf("%w: it is empty", ErrTable)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTable, err)
	}
	for i, name := range head {
		name = strings.TrimSpace(name)
		if name == "" {
			name = fmt.Sprintf("column%d", i+1) // as of row names that R writes
		}
		if slices.Contains(t.Names, name) {
			return fmt.Errorf("%w: two columns have the name %q", ErrTable, name)
		}
		t.Names = append(t.Names, name)
	}
	t.Cells = make([][]string, len(t.Names))
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTable, err)
		}
		line, _ := rows.FieldPos(0)
		for c, v := range row {
			if !utf8.ValidString(v) {
				return fmt.Errorf("%w: line %d, column %q is not UTF-8: convert the file", ErrTable, line, t.Names[c])
			}
			t.Cells[c] = append(t.Cells[c], v)
		}
		t.Lines = append(t.Lines, line)
	}
}

func (t *Sheet) readObjects() error {
	err := data.EachRow(t.Path, func(row map[string]json.RawMessage) error {
		if t.Names == nil {
			t.Names = slices.Sorted(maps.Keys(row))
			t.Cells = make([][]string, len(t.Names))
		}
		for name := range row {
			if !slices.Contains(t.Names, name) {
				return fmt.Errorf("%w: column %q is not in the first row", ErrTable, name)
			}
		}
		for c, name := range t.Names {
			text, err := cellText(row[name])
			if err != nil {
				return fmt.Errorf("%w: column %q: %w", ErrTable, name, err)
			}
			t.Cells[c] = append(t.Cells[c], text)
		}
		t.Lines = append(t.Lines, len(t.Lines)+1)
		return nil
	})
	return err
}

// cellText writes a JSON value as a cell of a CSV file.
func cellText(raw json.RawMessage) (string, error) {
	switch s := string(raw); {
	case s == "" || s == "null":
		return "", nil
	case s[0] == '"':
		var v string
		err := json.Unmarshal(raw, &v)
		return v, err
	case s[0] == '{' || s[0] == '[':
		return "", fmt.Errorf("%.40s is no single value", s)
	default:
		return s, nil
	}
}

// column returns the place of a column, or an error that names the nearest.
func (t *Sheet) column(name string) (int, error) {
	if c := slices.Index(t.Names, name); c >= 0 {
		return c, nil
	}
	if near := nearest.Of(name, t.Names); near != "" {
		return 0, fmt.Errorf("fitting: %s: %w: no column %q, did you mean %q?", t.Path, ErrTable, name, near)
	}
	return 0, fmt.Errorf("fitting: %s: %w: no column %q (columns: %s)", t.Path, ErrTable, name, strings.Join(t.Names, ", "))
}

// Matrix returns the numbers of a formula's columns, as they stand.
func Matrix(t *Sheet, formula string) (*mat.Dense, error) {
	c, err := learn(t, Recipe{Formula: formula, Missing: MissingRefuse}, Takes{Columns: Parts})
	if err != nil {
		return nil, err
	}
	rows, err := c.usable(t, false)
	if err != nil {
		return nil, err
	}
	return c.design(t, rows)
}
