package model

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// FuzzParseConfig: any bytes are a configuration or an error that says so. One that is
// taken describes a model of bounded size, and written out it reads the same.
func FuzzParseConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/parity/*/config.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no config.json to begin with: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, s := range []string{
		``, `null`, `[]`, `{}`, `{"model_type": 7}`, `{"model_type": "llama"}`, `{"model_type": "gpt2", "n_embd": 1e99}`,
		`{"model_type": "llama", "hidden_size": -1, "num_attention_heads": -1, "eos_token_id": [1, [2]]}`,
		`{"model_type": "phi", "hidden_size": 64, "num_attention_heads": 4, "partial_rotary_factor": 1e300}`,
		`{"model_type": "gemma3_text", "rope_parameters": {"full_attention": null, "sliding_attention": 3}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(checkConfig)
}

// Every value of every committed configuration, put out of order in turn.
func TestConfigsWithOddValues(t *testing.T) {
	files, err := filepath.Glob("testdata/parity/*/config.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		for key, was := range doc {
			for _, odd := range []string{`null`, `-1`, `0`, `1`, `3`, `2.5`, `1e300`, `9223372036854775807`, `""`, `"x"`, `true`, `[]`, `[0, -7]`, `{}`, `{"x": null}`} {
				doc[key] = json.RawMessage(odd)
				changed, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				t.Run(filepath.Base(filepath.Dir(file))+" "+key+" "+odd, func(t *testing.T) { checkConfig(t, changed) })
			}
			doc[key] = was
		}
	}
}

// checkConfig wants an error that is ErrConfig, or a configuration to build from.
func checkConfig(t *testing.T, raw []byte) {
	c, err := ParseConfig(raw)
	if err != nil {
		if !errors.Is(err, ErrConfig) {
			t.Fatalf("%v is not ErrConfig", err)
		}
		return
	}
	if c.Layers > 64 {
		return
	}
	specs, err := Layout(c) // reads keys of the family's own, which ParseConfig need not
	if err != nil && !errors.Is(err, ErrConfig) {
		t.Fatalf("%v is not ErrConfig", err)
	}
	for _, s := range specs {
		if s.Out < 1 || s.In < 1 {
			t.Fatalf("%s is [%d, %d]", s.Name, s.Out, s.In)
		}
	}
	doc, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseConfig(doc)
	if err != nil {
		t.Fatalf("what was written is refused: %v\n%s", err, doc)
	}
	c.Raw, again.Raw, c.badKeys = nil, nil, nil
	if !reflect.DeepEqual(c, again) {
		t.Fatalf("read again it is\n%+v, was\n%+v", again, c)
	}
}
