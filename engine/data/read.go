package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Record is a piece of text to learn from: either Text, or a Prompt that is given
// and a Completion that is learnt.
type Record struct{ Text, Prompt, Completion string }

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

// ReadJSONL reads a file of one JSON object a line, each in one of these shapes
// (further keys are ignored, empty lines skipped):
//
//	{"text"}                            Text
//	{"prompt", "completion"}            as they are
//	{"question", "answer"}              question and a line break; answer
//	{"instruction", "input"?, "output"} the first two, a line each; output
//	{"messages": [{"role", "content"}]} "Role: content" a line each; the content
//	                                    of the last, which is the assistant's
func ReadJSONL(path string) ([]Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	records, err := readJSONL(f)
	if err != nil {
		return nil, fmt.Errorf("data: %s: %w", path, err)
	}
	return records, nil
}

func readJSONL(from io.Reader) ([]Record, error) {
	var records []Record
	lines := bufio.NewReaderSize(from, 1<<16)
	var buf []byte
	for number := 1; ; number++ {
		line, err := readLine(lines, buf[:0])
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		buf = line
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			record, err := parseRecord(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			records = append(records, record)
		}
		if err == io.EOF {
			break
		}
	}
	if len(records) == 0 {
		return nil, ErrEmpty
	}
	return records, nil
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

const knownShapes = `{"text"}, {"prompt", "completion"}, {"question", "answer"}, {"instruction", "output"} or {"messages"}`

func parseRecord(line []byte) (Record, error) {
	if !utf8.Valid(line) {
		at := firstInvalid(line)
		return Record{}, fmt.Errorf("byte %d (0x%02x) is not UTF-8: %w", at, line[at], ErrFormat)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return Record{}, fmt.Errorf("%.60q is not a JSON object: %w: %w", line, err, ErrFormat)
	}
	has := func(keys ...string) bool {
		return !slices.ContainsFunc(keys, func(k string) bool { _, ok := object[k]; return !ok })
	}
	var err error
	get := func(key string) string {
		var s *string
		if e := json.Unmarshal(object[key], &s); (e != nil || s == nil) && err == nil {
			err = fmt.Errorf("%q is %.60q, want a string: %w", key, object[key], ErrFormat)
			return ""
		}
		return *s
	}
	var r Record
	switch {
	case has("prompt", "completion"):
		r.Prompt, r.Completion = get("prompt"), get("completion")
	case has("question", "answer"):
		r.Prompt, r.Completion = get("question")+"\n", get("answer")
	case has("instruction", "output"):
		r.Prompt, r.Completion = get("instruction")+"\n", get("output")
		if has("input") && err == nil {
			if input := get("input"); input != "" {
				r.Prompt += input + "\n"
			}
		}
	case has("messages"):
		r, err = parseMessages(object["messages"])
	case has("text"):
		r.Text = get("text")
		if r.Text == "" && err == nil {
			err = fmt.Errorf(`"text" is empty: %w`, ErrEmpty)
		}
		return r, err
	default:
		keys := make([]string, 0, len(object))
		for key := range object {
			keys = append(keys, fmt.Sprintf("%.40q", key))
		}
		slices.Sort(keys)
		return r, fmt.Errorf("the keys are %s; known are %s: %w", strings.Join(keys, ", "), knownShapes, ErrFormat)
	}
	if r.Completion == "" && err == nil {
		err = fmt.Errorf("the text to learn is empty: %w", ErrEmpty)
	}
	return r, err
}

// parseMessages writes a conversation as plain text, a role and its words a line.
func parseMessages(raw json.RawMessage) (Record, error) {
	var messages []struct{ Role, Content string }
	if err := json.Unmarshal(raw, &messages); err != nil {
		return Record{}, fmt.Errorf("messages: %w: %w", err, ErrFormat)
	}
	last := len(messages) - 1
	if last < 0 || messages[last].Role != "assistant" {
		return Record{}, fmt.Errorf("messages: the last one must be the assistant's: %w", ErrFormat)
	}
	var b strings.Builder
	for i, m := range messages {
		switch m.Role {
		case "system":
			b.WriteString("System:")
		case "user":
			b.WriteString("User:")
		case "assistant":
			b.WriteString("Assistant:")
		default:
			return Record{}, fmt.Errorf("messages: message %d has the role %.40q; known are system, user, assistant: %w", i+1, m.Role, ErrFormat)
		}
		if i < last {
			b.WriteString(" " + m.Content + "\n")
		}
	}
	r := Record{Prompt: b.String()}
	if messages[last].Content != "" {
		r.Completion = " " + messages[last].Content
	}
	return r, nil
}
