package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tare/app/web"
	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/tensor"
)

// inspect shows what is in a checkpoint.
type inspect struct {
	Path  string `arg:"" help:"A model or adapter folder, a .safetensors or .gguf file, or the word bundled."`
	Stats bool   `help:"Read all entries: mean, standard deviation, extremes, zeros, NaN and Inf."`
}

// Help shows examples.
func (*inspect) Help() string {
	return `Only headers are read, so that size does not matter; --stats streams the tensors once.

Examples:
  tare inspect bundled
  tare inspect path/to/model --stats
  tare inspect path/to/adapter --json`
}

// inspected is the result as JSON.
type inspected struct {
	Path         string            `json:"path"`
	Kind         string            `json:"kind"` // model, file or adapter
	Architecture *architecture     `json:"architecture,omitempty"`
	Adapter      *adapterSummary   `json:"adapter,omitempty"`
	Parameters   int64             `json:"parameters"`
	Bytes        int64             `json:"bytes"`
	NonFinite    int               `json:"non_finite"` // entries, with --stats
	Metadata     map[string]string `json:"metadata"`
	Tensors      []inspectedTensor `json:"tensors"`
}

type inspectedTensor struct {
	Name       string        `json:"name"`
	DType      string        `json:"dtype"`
	Shape      []int         `json:"shape"`
	Parameters int64         `json:"parameters"`
	Bytes      int64         `json:"bytes"`
	File       string        `json:"file"`
	Stats      *tensor.Stats `json:"stats,omitempty"`
}

// architecture is what config.json says, whether this program builds it or not.
type architecture struct {
	ModelType    string          `json:"model_type"`
	Hidden       int             `json:"hidden_size,omitempty"`
	Intermediate int             `json:"intermediate_size,omitempty"`
	Layers       int             `json:"num_hidden_layers,omitempty"`
	Heads        int             `json:"num_attention_heads,omitempty"`
	KVHeads      int             `json:"num_key_value_heads,omitempty"`
	Vocab        int             `json:"vocab_size,omitempty"`
	Positions    int             `json:"max_position_embeddings,omitempty"`
	Tied         bool            `json:"tie_word_embeddings,omitempty"`
	Quantization json.RawMessage `json:"quantization_config,omitempty"`
	// Sizes are those of each layer, where they differ; the fields above tell the largest.
	Sizes []model.LayerSize `json:"layer_sizes,omitempty"`
	// Problem is why it cannot be run, where it cannot.
	Problem string `json:"problem,omitempty"`
}

// adapterSummary is what adapter_config.json says.
type adapterSummary struct {
	Method  string   `json:"method"`
	Rank    int      `json:"rank"`
	Alpha   float64  `json:"alpha,omitempty"`
	Targets []string `json:"targets"`
	Base    string   `json:"base"`
}

// contents are the tensors of a folder or file.
type contents interface {
	Names() []string
	Info(name string) (checkpoint.Info, bool)
	Tensor(name string) (*tensor.Tensor, error)
	Metadata() map[string]string
	Close() error
}

// Run implements the verb.
func (v *inspect) Run(a *app) error {
	path, err := resolveModel(v.Path)
	if err != nil {
		return err
	}
	result := &inspected{Path: v.Path, Kind: "model"}
	src, err := v.open(path, result)
	if err != nil {
		return err
	}
	defer src.Close()
	result.Metadata = src.Metadata()
	if err := v.tensors(a, src, result); err != nil {
		return err
	}
	if a.JSON {
		return a.printJSON(result)
	}
	result.print(a, v.Stats)
	return nil
}

// open opens whatever stands at path and fills in what is not a tensor.
func (v *inspect) open(path string, r *inspected) (contents, error) {
	if _, err := os.Stat(filepath.Join(path, "adapter_config.json")); err == nil {
		adapter, err := checkpoint.OpenAdapter(path)
		if err != nil {
			return nil, err
		}
		r.Kind, r.Adapter = "adapter", summarize(adapter.Config)
		return adapter, nil
	} else if st, statErr := os.Stat(path); !errors.Is(err, fs.ErrNotExist) && (statErr != nil || st.IsDir()) {
		return nil, err
	}
	folder, err := checkpoint.OpenFolder(path)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		r.Kind = "file"
	}
	if folder.Config != nil {
		r.Architecture = describe(folder.Config)
	}
	return folder, nil
}

// describe reads the usual keys of a config.json of any type.
func describe(config []byte) *architecture {
	c := &architecture{}
	known, problem := model.ParseConfig(config)
	if problem == nil && known.Uneven() {
		for i := range known.Layers {
			c.Sizes = append(c.Sizes, known.LayerSize(i))
		}
	}
	if err := json.Unmarshal(config, c); err != nil && c.Sizes == nil {
		return &architecture{Problem: fmt.Sprintf("config.json: %v", err)}
	}
	if problem != nil {
		c.Problem = problem.Error()
	}
	if c.Sizes != nil { // lists, which the fields cannot take
		c.Heads, c.KVHeads, c.Intermediate = known.Heads, known.KVHeads, known.IntermediateSize
	}
	return c
}

// summarize reads the usual keys of an adapter_config.json.
func summarize(config map[string]any) *adapterSummary {
	s := &adapterSummary{}
	kind, _ := config["peft_type"].(string)
	s.Method = strings.ToLower(kind)
	if r, ok := config["r"].(float64); ok {
		s.Rank = int(r)
	}
	s.Base, _ = config["base_model_name_or_path"].(string)
	s.Alpha, _ = config[s.Method+"_alpha"].(float64)
	switch targets := config["target_modules"].(type) {
	case string:
		s.Targets = []string{targets}
	case []any:
		for _, t := range targets {
			s.Targets = append(s.Targets, fmt.Sprint(t))
		}
	}
	slices.Sort(s.Targets)
	return s
}

func (v *inspect) tensors(a *app, src contents, r *inspected) error {
	p := a.progress("inspect", "tensors")
	defer p.done()
	names := src.Names()
	for i, name := range names {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		info, _ := src.Info(name)
		t := inspectedTensor{Name: name, DType: info.DType.String(), Shape: info.Shape, Bytes: info.Bytes, File: info.File,
			Parameters: info.Bytes / int64(info.DType.Size())}
		if v.Stats {
			p.update(int64(i), int64(len(names)), name)
			x, err := src.Tensor(name)
			if err != nil {
				return err
			}
			if s, ok := x.Stats(); ok {
				t.Stats = &s
				r.NonFinite += s.NonFinite
			}
		}
		r.Parameters += t.Parameters
		r.Bytes += t.Bytes
		r.Tensors = append(r.Tensors, t)
	}
	return nil
}

func (r *inspected) print(a *app, stats bool) {
	header := []string{"tensor", "dtype", " shape", " parameters", " bytes"}
	if stats {
		header = append(header, " mean", " std", " min", " max", " zeros", " NaN, Inf")
	}
	rows := make([][]string, len(r.Tensors))
	for i, t := range r.Tensors {
		rows[i] = []string{t.Name, t.DType, shapeText(t.Shape), countText(t.Parameters), bytesText(t.Bytes)}
		if s := t.Stats; s != nil {
			rows[i] = append(rows[i], web.Number(s.Mean), web.Number(s.Std), web.Number(s.Min), web.Number(s.Max), fmt.Sprint(s.Zeros), fmt.Sprint(s.NonFinite))
		} else if stats {
			rows[i] = append(rows[i], "–", "–", "–", "–", "–", "–")
		}
	}
	table(a.out, header, rows)
	fmt.Fprintf(a.out, "\n%s: %d tensors, %s parameters, %s\n", r.Path, len(r.Tensors), countText(r.Parameters), bytesText(r.Bytes))
	if c := r.Architecture; c != nil {
		c.print(a)
	}
	if s := r.Adapter; s != nil {
		fmt.Fprintf(a.out, "adapter: %s of rank %d on %s, made for %s\n", s.Method, s.Rank, strings.Join(s.Targets, ", "), orUnknown(s.Base))
	}
	for _, key := range slices.Sorted(maps.Keys(r.Metadata)) {
		fmt.Fprintf(a.out, "metadata: %s = %s\n", key, shorten(r.Metadata[key], 100))
	}
	if r.NonFinite > 0 {
		fmt.Fprintf(a.out, "%d entries are NaN or Inf: the file is damaged or training diverged\n", r.NonFinite)
	}
}

func (c *architecture) print(a *app) {
	if c.ModelType != "" {
		fmt.Fprintf(a.out, "%s: %d layers, width %d, MLP %d, %d heads (%d for keys and values), vocabulary %d, %d positions",
			c.ModelType, c.Layers, c.Hidden, c.Intermediate, c.Heads, max(c.KVHeads, 0), c.Vocab, c.Positions)
		if c.Tied {
			fmt.Fprint(a.out, ", tied embeddings")
		}
		fmt.Fprintln(a.out)
	}
	for i, s := range c.Sizes {
		fmt.Fprintf(a.out, "layer %d: MLP %d, %d heads (%d for keys and values)\n", i, s.Channels, s.Heads, s.KVHeads)
	}
	if c.Quantization != nil {
		fmt.Fprintf(a.out, "quantized: %s\n", strings.Join(strings.Fields(string(c.Quantization)), " "))
	}
	if c.Problem != "" {
		fmt.Fprintf(a.out, "it cannot be run: %s\n", c.Problem)
	}
}

func shapeText(shape []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(shape), "[]"), " ", " × ")
}

func orUnknown(s string) string {
	if s == "" {
		return "an unnamed model"
	}
	return s
}
