package checkpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tare/engine/tensor"
)

// ConvertOptions shapes a conversion.
type ConvertOptions struct {
	Type      GGMLType // how WriteGGUF stores matrices
	DType     tensor.DType
	Keep      bool // WriteFolder leaves every tensor in the type that it has, and ignores DType
	Overwrite bool // WriteFolder replaces a model of that name
	// Progress, if set, is called before each tensor with its name and the bytes of the
	// source that are done.
	Progress func(name string, done, total int64)
}

// convert is one conversion under way.
type convert struct {
	ctx         context.Context
	src         *Folder
	o           ConvertOptions
	done, total int64
}

func newConvert(ctx context.Context, src *Folder, o ConvertOptions) *convert {
	c := &convert{ctx: ctx, src: src, o: o}
	for _, name := range src.Names() {
		info, _ := src.Info(name)
		c.total += info.Bytes
	}
	return c
}

// next returns the next tensor, unless the conversion was called off.
func (c *convert) next(name string) (*tensor.Tensor, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	if c.o.Progress != nil {
		c.o.Progress(name, c.done, c.total)
	}
	t, err := c.src.Tensor(name)
	if err == nil {
		c.done += int64(len(t.Bytes()))
	}
	return t, err
}

// WriteGGUF writes a llama-like model with its tokenizer as a GGUF file, one tensor in
// memory at a time. Matrices are stored as o.Type; norms and biases as F32, a matrix
// whose rows do not divide into blocks as F16, and beside Q4_0 the embedding and the
// head as Q8_0, which they need.
func WriteGGUF(ctx context.Context, path string, src *Folder, o ConvertOptions) error {
	c, err := parseHFConfig(src)
	if err != nil {
		return err
	}
	p, err := c.plan(src, o.Type)
	if err != nil {
		return err
	}
	tokens, err := tokenizerFields(src, c, p.rows)
	if err != nil {
		return err
	}
	fields := append(c.fields(src, o.Type), GGUFField{c.arch + ".vocab_size", uint32(p.rows)})
	w, err := CreateGGUF(path, slices.Concat(fields, tokens), p.specs)
	if err != nil {
		return err
	}
	defer w.Abort()
	if p.factors != nil {
		if err := w.Write(p.factors); err != nil {
			return err
		}
	}
	run := newConvert(ctx, src, o)
	for _, name := range p.names {
		t, err := run.next(name)
		if err != nil {
			return err
		}
		if heads := rotaryHeadsOf(name, c.Heads, c.KVHeads); heads > 0 && ggufFamilies[c.arch].interleaved {
			if t, err = permuteRotary(t, heads, true); err != nil {
				return fmt.Errorf("checkpoint: tensor %q: %w", name, err)
			}
		}
		if err := w.Write(t); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.Close()
}

// ggufPlan is what a GGUF file will hold: the factors of the frequencies if there are
// any, then the named tensors.
type ggufPlan struct {
	names   []string
	specs   []GGUFSpec
	rows    int // of the embedding
	factors *tensor.Tensor
}

func (c *hfConfig) plan(src *Folder, kind GGMLType) (*ggufPlan, error) {
	if !slices.Contains(GGUFTypes(), kind) {
		return nil, fmt.Errorf("checkpoint: %s is not written (known: %v)", kind, GGUFTypes())
	}
	p := &ggufPlan{}
	if c.Scaling != nil && c.Scaling.Type == "llama3" {
		f := c.Scaling.factors(c.HeadDim, c.Theta)
		p.factors = tensor.FromF32(f, len(f))
		p.specs = append(p.specs, GGUFSpec{ropeFactors, GGMLF32, []int{len(f)}})
	}
	for _, name := range src.Names() {
		info, _ := src.Info(name)
		stored, ok := rename(name, 1, 0)
		switch {
		case strings.HasSuffix(name, ".rotary_emb.inv_freq"):
			continue // follows from rope_theta
		case name == "lm_head.weight" && c.Tied:
			continue // the embedding once more
		case strings.HasSuffix(name, ".q4_codes"):
			return nil, fmt.Errorf("checkpoint: %s is quantized already (tensor %q); start from the original", src.Dir, name)
		case !ok:
			return nil, fmt.Errorf("checkpoint: %s: tensor %q has no place in a GGUF file of a %s", src.Dir, name, c.arch)
		case !info.DType.IsFloat():
			return nil, fmt.Errorf("checkpoint: %s: tensor %q is %s, want a floating-point type", src.Dir, name, info.DType)
		}
		if stored == "token_embd.weight" && len(info.Shape) == 2 {
			p.rows = info.Shape[0]
		}
		p.names = append(p.names, name)
		p.specs = append(p.specs, GGUFSpec{stored, storedAs(kind, stored, info.Shape), info.Shape})
	}
	if p.rows == 0 {
		return nil, missing(src.Dir, "there is no tensor model.embed_tokens.weight [vocabulary, width]")
	}
	return p, nil
}

// storedAs returns the type of a tensor in a file that is mostly kind.
func storedAs(kind GGMLType, name string, shape []int) GGMLType {
	if len(shape) < 2 {
		return GGMLF32
	}
	if kind == GGMLQ4_0 && (name == "token_embd.weight" || name == "output.weight") {
		kind = GGMLQ8_0
	}
	if shape[len(shape)-1]%ggmlKinds[kind].block != 0 {
		return GGMLF16
	}
	return kind
}

// WriteFolder writes a model as a Hugging Face folder, one tensor in memory at a time,
// with floating-point tensors in o.DType and the files beside them.
func WriteFolder(ctx context.Context, dir string, src *Folder, o ConvertOptions) error {
	run := newConvert(ctx, src, o)
	if !o.Keep && !o.DType.IsFloat() {
		return fmt.Errorf("checkpoint: weights are not stored as %s", o.DType)
	}
	var specs []Spec
	for _, name := range src.Names() {
		info, _ := src.Info(name)
		s := Spec{name, info.DType, info.Shape}
		if !o.Keep && info.DType.IsFloat() {
			s.DType = o.DType
		}
		specs = append(specs, s)
	}
	w, err := CreateFolder(dir, specs, FolderOptions{Overwrite: o.Overwrite})
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, s := range specs {
		t, err := run.next(s.Name)
		if err != nil {
			return err
		}
		had := t
		if t.DType() != s.DType {
			if t, err = t.To(s.DType); err != nil {
				return fmt.Errorf("checkpoint: tensor %q: %w", s.Name, err)
			}
			if i := t.FirstNonFinite(); i >= 0 && had.FirstNonFinite() < 0 {
				return &kinded{fmt.Sprintf("checkpoint: tensor %q: entry %d is too large for %s; choose BF16 or F32", s.Name, i, s.DType), ErrNonFinite}
			}
		}
		if err := w.Write(t); err != nil {
			return err
		}
	}
	config, err := withDType(src.Config, o)
	if err == nil && config != nil {
		err = w.File(configName, config)
	}
	if err == nil {
		err = w.CopyFrom(src, AuxiliaryFiles()...)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// withDType returns config.json with the type that the weights have now.
func withDType(config []byte, o ConvertOptions) ([]byte, error) {
	if config == nil || o.Keep {
		return config, nil
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(config, &doc); err != nil {
		return nil, malformed(configName, "%v", err)
	}
	names := map[tensor.DType]string{tensor.F32: `"float32"`, tensor.F16: `"float16"`, tensor.BF16: `"bfloat16"`, tensor.F64: `"float64"`}
	key := "torch_dtype"
	if _, newer := doc["dtype"]; newer {
		key = "dtype"
	}
	doc[key] = json.RawMessage(names[o.DType])
	return jsonText(doc)
}
