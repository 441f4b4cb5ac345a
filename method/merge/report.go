package merge

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"tare/engine/tensor"
)

// ProvenanceFile is the file of a merged model that says what it was made of.
const ProvenanceFile = "tare_merge.json"

// Report says what a merge made, or would make.
type Report struct {
	Method      string        `json:"method"`
	Output      string        `json:"output"`
	DryRun      bool          `json:"dry_run,omitempty"`
	Tensors     int           `json:"tensors"`
	Parameters  int64         `json:"parameters"`
	OutputBytes int64         `json:"output_bytes"`
	BufferBytes int64         `json:"buffer_bytes"` // most memory that buffers take
	Inputs      []InputReport `json:"inputs"`
	Warnings    []string      `json:"warnings,omitempty"`
	Plan        []Planned     `json:"plan,omitempty"` // of a dry run
	Seconds     float64       `json:"seconds"`
}

// InputReport describes one model that went in.
type InputReport struct {
	Model   string            `json:"model"` // its folder's name, without the path
	Base    bool              `json:"base,omitempty"`
	Tensors int               `json:"tensors"`
	Bytes   int64             `json:"bytes"`
	Headers map[string]string `json:"headers_sha256"` // by file
}

// Planned is one tensor of the merged model.
type Planned struct {
	Name   string `json:"name"`
	DType  string `json:"dtype"`
	Shape  []int  `json:"shape"`
	Pieces int    `json:"pieces"` // 0: taken over as it is
}

// report describes the planned merge.
func (m *merger) report() (Report, error) {
	r := Report{Method: m.recipe.Method.Name, Output: m.out, DryRun: m.o.DryRun, Tensors: len(m.jobs), Warnings: m.warnings,
		BufferBytes: int64(m.piece) * m.bytesPerElement()}
	for i := range m.jobs {
		j := &m.jobs[i]
		r.Parameters += int64(j.n)
		r.OutputBytes += int64(j.n) * int64(j.stored.Size())
		if m.o.DryRun {
			p := Planned{Name: j.name, DType: j.stored.String(), Shape: j.shape}
			if !j.copied {
				for range m.pieces(j) {
					p.Pieces++
				}
			}
			r.Plan = append(r.Plan, p)
		}
	}
	for _, in := range m.opened {
		described, err := describeInput(in)
		if err != nil {
			return r, err
		}
		described.Base = m.recipe.Method.Base != BaseIsModel && sameModel(in.name, m.recipe.Base)
		r.Inputs = append(r.Inputs, described)
	}
	return r, nil
}

func describeInput(in *input) (InputReport, error) {
	r := InputReport{Model: filepath.Base(in.path), Tensors: len(in.Names()), Headers: map[string]string{}}
	for _, name := range in.Names() {
		info, _ := in.Info(name)
		r.Bytes += info.Bytes
		if r.Headers[info.File] != "" {
			continue
		}
		sum, err := headerHash(filepath.Join(in.Dir, info.File))
		if err != nil {
			return r, fmt.Errorf("merge: model %s: %w", in.name, err)
		}
		r.Headers[info.File] = sum
	}
	return r, nil
}

// headerHash is the SHA-256 of a safetensors file's length field and header, and that
// of a whole GGUF file, whose header does not say how long it is.
func headerHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var length [8]byte
	if _, err := io.ReadFull(f, length[:]); err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(length[:])
	if string(length[:4]) == "GGUF" {
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	if _, err := io.CopyN(h, f, int64(binary.LittleEndian.Uint64(length[:]))); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// provenance is the content of ProvenanceFile.
func (m *merger) provenance(r Report) ([]byte, error) {
	data, err := json.MarshalIndent(struct {
		Method string        `json:"method"`
		Recipe string        `json:"recipe"`
		Inputs []InputReport `json:"inputs"`
	}{r.Method, m.recipe.Text, r.Inputs}, "", "  ")
	return append(data, '\n'), err
}

// card is the model card of the merged model.
func (m *merger) card(r Report) []byte {
	var b bytes.Buffer
	fmt.Fprint(&b, "---\ntags:\n- merge\n---\n")
	fmt.Fprintf(&b, "# %s\n\nMerged by Tare with the method `%s`, computed in float32.\n\n", filepath.Base(m.out), r.Method)
	fmt.Fprint(&b, "| model | role | tensors | bytes |\n|---|---|---:|---:|\n")
	for _, in := range r.Inputs {
		role := "merged"
		if in.Base {
			role = "base"
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d |\n", in.Model, role, in.Tensors, in.Bytes)
	}
	if m.recipe.Text != "" {
		fence := "```"
		for strings.Contains(m.recipe.Text, fence) {
			fence += "`"
		}
		fmt.Fprintf(&b, "\nThe recipe:\n\n%syaml\n%s\n%s\n", fence, strings.TrimRight(m.recipe.Text, "\n"), fence)
	}
	fmt.Fprintf(&b, "\n`%s` holds the recipe and the inputs' fingerprints.\n", ProvenanceFile)
	return b.Bytes()
}

// configKeys are settings that change what weights of one shape mean.
var configKeys = []string{"num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings"}

// checkConfigs refuses models of several architectures and warns of settings that
// differ.
func (m *merger) checkConfigs() error {
	lead, err := fields(m.lead)
	if err != nil || lead == nil {
		return err
	}
	for _, in := range m.opened {
		if in == m.lead {
			continue
		}
		own, err := fields(in)
		if err != nil {
			return err
		}
		if own == nil {
			continue
		}
		if a, b := lead["model_type"], own["model_type"]; !reflect.DeepEqual(a, b) {
			return fmt.Errorf("merge: %w: model_type is %v in %s and %v in %s", ErrMismatch, a, m.lead.name, b, in.name)
		}
		for _, key := range configKeys {
			if a, b := lead[key], own[key]; !reflect.DeepEqual(a, b) {
				m.warnings = append(m.warnings, fmt.Sprintf("config.json: %s is %s in %s and %s in %s; the merge keeps the first", key, shown(a), m.lead.name, shown(b), in.name))
			}
		}
	}
	return nil
}

func shown(v any) string {
	if v == nil {
		return "unset"
	}
	return fmt.Sprint(v)
}

func fields(in *input) (map[string]any, error) {
	if in.Config == nil {
		return nil, nil
	}
	var f map[string]any
	dec := json.NewDecoder(bytes.NewReader(in.Config))
	dec.UseNumber()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("merge: model %s: config.json: %w", in.name, err)
	}
	return f, nil
}

var torchNames = map[tensor.DType]string{tensor.F32: "float32", tensor.F16: "float16", tensor.BF16: "bfloat16"}

// config returns the lead's config.json with what the merge makes different: the type
// of weights where all have one, the number of layers and of tokens.
func (m *merger) config() ([]byte, error) {
	f, err := fields(m.lead)
	if err != nil || f == nil {
		return nil, err
	}
	changed := false
	set := func(v any, keys ...string) {
		for _, key := range keys {
			if old, ok := f[key]; ok && fmt.Sprint(old) != fmt.Sprint(v) {
				f[key], changed = v, true
			}
		}
	}
	var stored []tensor.DType
	for _, j := range m.jobs {
		if !j.copied && !slices.Contains(stored, j.stored) {
			stored = append(stored, j.stored)
		}
	}
	if len(stored) == 1 {
		set(torchNames[stored[0]], "torch_dtype", "dtype")
	}
	if m.align != nil {
		set(m.align.rows, "vocab_size")
	}
	if m.recipe.Slices[0].Sources[0].Layers != nil {
		n, kinds := 0, []any(nil)
		own, _ := f["layer_types"].([]any)
		for _, s := range m.recipe.Slices {
			from := s.Sources[0].Layers
			n += from[1] - from[0]
			kinds = append(kinds, own[min(from[0], len(own)):min(from[1], len(own))]...)
		}
		set(n, "num_hidden_layers", "n_layer", "num_layers")
		if len(kinds) == n {
			set(kinds, "layer_types")
		}
	}
	if !changed {
		return m.lead.Config, nil
	}
	data, err := json.MarshalIndent(f, "", "  ")
	return append(data, '\n'), err
}
