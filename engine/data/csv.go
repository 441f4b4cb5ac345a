package data

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// readCSV reads rows as objects of strings; the first row names the columns.
func readCSV(from io.Reader, comma rune, each func(object) error) error {
	in := bufio.NewReader(from)
	if mark, err := in.Peek(3); err == nil && string(mark) == "\uFEFF" {
		in.Discard(3)
	}
	rows := csv.NewReader(in)
	rows.Comma, rows.ReuseRecord = comma, true
	rows.LazyQuotes = comma == '\t'
	head, err := rows.Read()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return csvFault(err)
	}
	columns := make([]string, len(head))
	seen := map[string]bool{}
	for i, name := range head {
		columns[i] = strings.ToLower(strings.TrimSpace(name))
		if seen[columns[i]] && columns[i] != "" {
			return fmt.Errorf("line 1: two columns have the name %.40q: %w", columns[i], ErrFormat)
		}
		seen[columns[i]] = true
	}
	o := object{}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return csvFault(err)
		}
		line, _ := rows.FieldPos(0)
		clear(o)
		for i, field := range row {
			if !utf8.ValidString(field) {
				return fmt.Errorf("line %d, column %.40q: not UTF-8: convert the file: %w", line, columns[i], ErrFormat)
			}
			if o[columns[i]], err = cell(columns[i], field); err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
		if err := each(o); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// cell is a field as JSON: messages stand in the file as JSON already.
func cell(column, field string) (json.RawMessage, error) {
	if column == "messages" && json.Valid([]byte(field)) {
		return json.RawMessage(field), nil
	}
	return json.Marshal(field)
}

func csvFault(err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("line %d: %w: %w", parse.Line, parse.Err, ErrFormat)
	}
	return err
}
