package merge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"tare/engine/checkpoint"
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
	MemoryBytes int64         `json:"memory_bytes"` // forecast of all memory
	Inputs      []InputReport `json:"inputs"`
	Warnings    []string      `json:"warnings,omitempty"`
	Plan        []Planned     `json:"plan,omitempty"`          // of a dry run
	Resumed     int           `json:"resumed_files,omitempty"` // files of weights that an interrupted run had finished
	Seconds     float64       `json:"seconds"`
}

// InputReport describes one model that went in.
type InputReport struct {
	Model   string            `json:"model"` // its folder's name, without the path
	Base    bool              `json:"base,omitempty"`
	Tensors int               `json:"tensors"`
	Bytes   int64             `json:"bytes"`
	Files   map[string]string `json:"sampled_sha256"` // by file, see fingerprint
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
	r.MemoryBytes = r.BufferBytes + m.beside()
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
	r := InputReport{Model: filepath.Base(in.path), Tensors: len(in.Names()), Files: map[string]string{}}
	if in.adapter != nil {
		model, lora, _ := strings.Cut(in.name, "+")
		r.Model = filepath.Base(model) + "+" + filepath.Base(lora)
	}
	err := r.describe(in.Folder, "")
	if err == nil && in.adapter != nil {
		err = r.describe(in.adapter, "adapter/")
	}
	if err != nil {
		return r, fmt.Errorf("merge: model %s: %w", in.name, err)
	}
	return r, nil
}

// described is what fingerprints are taken of: a model or an adapter.
type described interface {
	Names() []string
	Info(name string) (checkpoint.Info, bool)
	Tensor(name string) (*tensor.Tensor, error)
}

// describe adds the sizes and fingerprints of a model's files.
func (r *InputReport) describe(d described, prefix string) error {
	sums := map[string]hash.Hash{}
	for _, name := range d.Names() {
		info, _ := d.Info(name)
		t, err := d.Tensor(name)
		if err != nil {
			return err
		}
		r.Bytes += info.Bytes
		file := prefix + info.File
		if sums[file] == nil {
			sums[file] = sha256.New()
		}
		fingerprint(sums[file], info, t.Bytes())
	}
	for file, h := range sums {
		r.Files[file] = hex.EncodeToString(h.Sum(nil))
	}
	return nil
}

// fingerprint adds a tensor to the hash of its file: its name, type and shape, and of
// its data samples of 4 KiB at the start and at every 16 MiB and the last, so that files
// of any size are told apart at once.
func fingerprint(h hash.Hash, info checkpoint.Info, data []byte) {
	const sample, every = 4 << 10, 16 << 20
	fmt.Fprintf(h, "%q %s %v\n", info.Name, info.DType, info.Shape)
	for at := 0; at < len(data); at += every {
		h.Write(data[at:min(len(data), at+sample)])
	}
	h.Write(data[max(0, len(data)-sample):])
}

// provenance is the content of ProvenanceFile.
func (m *merger) provenance(r Report) ([]byte, error) {
	data, err := json.MarshalIndent(struct {
		Method string        `json:"method"`
		Seed   uint64        `json:"seed"`
		Recipe string        `json:"recipe"`
		Inputs []InputReport `json:"inputs"`
	}{r.Method, m.o.Seed, m.recipe.Text, r.Inputs}, "", "  ")
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
