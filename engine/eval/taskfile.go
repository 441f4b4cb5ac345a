package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"tare/engine/data"
)

// ReadTask reads a task from a file: YAML with the fields of Task, whose items stand in it
// or in the file of records that data names; or JSON lines of items, each with a context,
// choices and an answer, or each with a prompt and a completion.
func ReadTask(path string) (*Task, error) {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		return readYAML(path, name)
	}
	t := &Task{Name: name, Kind: Exact}
	var err error
	if t.Items, err = choices(path); err != nil {
		return nil, err
	}
	if len(t.Items) > 0 {
		t.Kind = MultipleChoice
	} else if t.Items, err = t.records(path); err != nil {
		return nil, err
	}
	return t, t.Validate()
}

func readYAML(path, name string) (*Task, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	t := &Task{Name: name}
	if err := yaml.UnmarshalWithOptions(raw, t, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("eval: %s: %w: %s", path, ErrTask, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if t.Data != "" {
		if len(t.Items) > 0 {
			return nil, fmt.Errorf("eval: %s has both data and items, want one: %w", path, ErrTask)
		}
		file := t.Data
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		read := t.records
		if t.Kind == MultipleChoice {
			read = choices
		}
		if t.Items, err = read(file); err != nil {
			return nil, err
		}
	}
	return t, t.Validate()
}

// records reads items of a kind that data.ReadRecords knows.
func (t *Task) records(path string) ([]Item, error) {
	records, err := data.ReadRecords(path)
	if err != nil {
		return nil, err
	}
	items := make([]Item, len(records))
	for i, r := range records {
		items[i] = Item{Text: r.Text, Label: r.Label, Prompt: r.Prompt, Completion: r.Completion}
	}
	return items, nil
}

// choices reads JSON lines of multiple choice; none where the first line has no choices.
func choices(path string) ([]Item, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	defer f.Close()
	var items []Item
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			var i Item
			bad := json.Unmarshal(line, &i)
			if len(items) == 0 && len(i.Choices) == 0 {
				return nil, nil
			}
			if bad != nil {
				return nil, fmt.Errorf("eval: %s: line %d: %w: %w", path, n, ErrTask, bad)
			}
			items = append(items, i)
		}
		if err == io.EOF {
			return items, nil
		} else if err != nil {
			return nil, fmt.Errorf("eval: %s: %w", path, err)
		}
	}
}
