package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tare/app/web"
	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// convert rewrites a model in another format.
type convert struct {
	Model     string `arg:"" help:"A model folder, a .safetensors or .gguf file, or bundled."`
	Out       string `required:"" placeholder:"DST" help:"Where to write: a name that ends in .gguf is a GGUF file, any other a model folder."`
	Type      string `placeholder:"TYPE" help:"What matrices are stored as: f32, f16, bf16, and in GGUF q8_0 or q4_0. Without it a folder keeps the types, which are f32 for blocks of small integers, and a GGUF file is bf16 where the model is, f16 otherwise."`
	Overwrite bool   `help:"Replace an existing output."`
}

// Help shows examples.
func (*convert) Help() string {
	return `Between Hugging Face folders and GGUF files, which llama.cpp and Ollama run, of llama-like models. The tokenizer, the chat template and the settings go along; one tensor is in memory at a time. In a q4_0 file the embedding and the head are q8_0.

Examples:
  tare convert model.Q4_K_M.gguf --out model
  tare convert path/to/model --out model.gguf --type q8_0
  tare convert bundled --out bundled.gguf`
}

// converted is the result as JSON.
type converted struct {
	Out     string  `json:"out"`
	Format  string  `json:"format"` // gguf or folder
	Type    string  `json:"type"`   // empty where each tensor keeps its own
	Tensors int     `json:"tensors"`
	Bytes   int64   `json:"bytes"` // of the files of weights
	Seconds float64 `json:"seconds"`
}

// Run implements the verb.
func (v *convert) Run(a *app) error {
	path, err := resolveModel(v.Model)
	if err != nil {
		return err
	}
	gguf := strings.EqualFold(filepath.Ext(v.Out), ".gguf")
	o, err := v.options(gguf)
	if err != nil {
		return err
	}
	folder, err := checkpoint.OpenFolder(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	if sameFile(path, v.Out) || !gguf && sameFile(folder.Dir, v.Out) {
		return usagef("--out %s is the model itself; choose another name", v.Out)
	}
	began := time.Now()
	p := a.progress("convert", "bytes")
	o.Progress = func(name string, done, total int64) { p.update(done, total, name) }
	r := converted{Out: v.Out, Format: "folder", Type: strings.ToLower(v.Type), Tensors: len(folder.Names())}
	if gguf {
		if v.Type == "" {
			o.Type = usualType(folder)
		}
		r.Format, r.Type = "gguf", strings.ToLower(o.Type.String())
		if err = v.free(); err == nil {
			err = checkpoint.WriteGGUF(a.ctx, v.Out, folder, o)
		}
	} else {
		err = checkpoint.WriteFolder(a.ctx, v.Out, folder, o)
	}
	p.done()
	if err != nil {
		return err
	}
	if r.Bytes, err = weightBytes(v.Out); err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	if a.JSON {
		return a.printJSON(r)
	}
	kind := r.Type
	if kind == "" {
		kind = "the types they had"
	}
	fmt.Fprintf(a.out, "%s: %d tensors in %s, %s, in %s\n", r.Out, r.Tensors, kind, bytesText(r.Bytes), web.Seconds(r.Seconds))
	return nil
}

// options reads --type.
func (v *convert) options(gguf bool) (checkpoint.ConvertOptions, error) {
	o := checkpoint.ConvertOptions{Overwrite: v.Overwrite, Keep: v.Type == ""}
	if v.Type == "" {
		return o, nil
	}
	kind, err := checkpoint.ParseGGMLType(v.Type)
	if err != nil {
		return o, usagef("--type: %w", err)
	}
	o.Type = kind
	if gguf {
		return o, nil
	}
	if o.DType, err = tensor.ParseDType(kind.String()); err != nil {
		return o, usagef("--type %s is for GGUF files; a folder takes f32, f16 or bf16 (tare quantize writes 4 bits)", v.Type)
	}
	return o, nil
}

// usualType is what a GGUF file of a model is stored as when nothing is asked for.
func usualType(folder *checkpoint.Folder) checkpoint.GGMLType {
	for _, name := range folder.Names() {
		if info, _ := folder.Info(name); len(info.Shape) == 2 && info.DType == tensor.BF16 {
			return checkpoint.GGMLBF16
		}
	}
	return checkpoint.GGMLF16
}

// free refuses to write over a file unless that was asked for.
func (v *convert) free() error {
	st, err := os.Stat(v.Out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.IsDir():
		return usagef("--out %s is a folder", v.Out)
	case !v.Overwrite:
		return fmt.Errorf("%s: %w; choose another name or ask to --overwrite it", v.Out, fs.ErrExist)
	}
	return nil
}

// weightBytes returns the size of a file, or of the weights in a folder.
func weightBytes(path string) (int64, error) {
	files := []string{path}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.safetensors")); err != nil {
			return 0, err
		}
	}
	var sum int64
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			return 0, err
		}
		sum += st.Size()
	}
	return sum, nil
}
