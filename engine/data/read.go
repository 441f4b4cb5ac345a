package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// lineLimit is the longest line of a JSON-lines file, in bytes.
const lineLimit = 64 << 20

// ReadText reads a file of UTF-8 text.
func ReadText(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	raw = bytes.TrimPrefix(raw, []byte("\uFEFF"))
	if len(raw) == 0 {
		return "", fmt.Errorf("data: %s: %w", path, ErrEmpty)
	}
	if !utf8.Valid(raw) {
		at := firstInvalid(raw)
		return "", fmt.Errorf("data: %s: byte %d (0x%02x, line %d) is not UTF-8: convert the file: %w", path, at, raw[at], 1+bytes.Count(raw[:at], []byte("\n")), ErrFormat)
	}
	return string(raw), nil
}

// firstInvalid returns the place of the first byte that is not UTF-8.
func firstInvalid(b []byte) int {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return at
}

// ReadJSONL reads a file of one JSON object a line, in the shapes that ReadRecords
// has (further keys are ignored, empty lines skipped).
func ReadJSONL(path string) ([]Record, error) { return Reader{}.readFile(path, readJSONL) }

func readJSONL(from io.Reader, _ int64, each func(object) error) error {
	lines := bufio.NewReaderSize(from, 1<<16)
	var buf []byte
	for number := 1; ; number++ {
		line, err := readLine(lines, buf[:0])
		if err != nil && err != io.EOF {
			return fmt.Errorf("line %d: %w", number, err)
		}
		buf = line
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			o, err := parseObject(line)
			if err == nil {
				err = each(o)
			}
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine reads up to and with the next line break into buf.
func readLine(r *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		buf = append(buf, part...)
		if len(buf) > lineLimit {
			return buf, fmt.Errorf("longer than %d bytes: %w", lineLimit, ErrFormat)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, err
		}
	}
}

// object is a record of a file before its shape is known.
type object map[string]json.RawMessage

func parseObject(line []byte) (object, error) {
	if !utf8.Valid(line) {
		at := firstInvalid(line)
		return nil, fmt.Errorf("byte %d (0x%02x) is not UTF-8: %w", at, line[at], ErrFormat)
	}
	var o object
	if err := json.Unmarshal(line, &o); err != nil {
		return nil, fmt.Errorf("%.60q is not a JSON object: %w: %w", line, err, ErrFormat)
	}
	return o, nil
}

// readJSON reads a list of objects.
func readJSON(from io.Reader, _ int64, each func(object) error) error {
	d := json.NewDecoder(from)
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("not a JSON list of objects (one object a line is JSON lines: name the file .jsonl): %w", ErrFormat)
	}
	for number := 1; d.More(); number++ {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if err != nil {
			err = fmt.Errorf("%w: %w", err, ErrFormat)
		}
		var o object
		if err == nil {
			o, err = parseObject(raw)
		}
		if err == nil {
			err = each(o)
		}
		if err != nil {
			return fmt.Errorf("object %d: %w", number, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("the list has no end: %w: %w", err, ErrFormat)
	}
	return nil
}
