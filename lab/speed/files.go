package speed

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tare/bench"
	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/lab/bundle"
	"tare/lab/tuning"
	"tare/method/merge"
	"tare/method/quant"
)

const (
	openTensors      = 256
	openRows, openIn = 1024, 4096 // of each, in bf16: 2 GB in all
	sparseFile       = "sparse.safetensors"
)

func openJobs(_ Options, threads []int) []job {
	j := job{threads: threads[len(threads)-1], unit: "open", amount: 1, shape: fmt.Sprintf("%d tensors, 2 GB", openTensors)}
	j.prepare = func(_ context.Context, h *host) (func() error, func(), error) {
		path := filepath.Join(h.dir, sparseFile)
		if err := writeSparse(path); err != nil {
			return nil, nil, err
		}
		return func() error { return openAll(path) }, func() { os.Remove(path) }, nil
	}
	j.peers = func(ctx context.Context, h *host) ([]*runner, error) {
		server, err := h.python(ctx, "open_peer.py", bench.OpenPeer, filepath.Join(h.dir, sparseFile))
		if err != nil {
			return nil, err
		}
		r := server.runner(0, 1, map[string]any{"seconds": h.seconds})
		r.close = server.close
		return []*runner{r}, nil
	}
	return []job{j}
}

// writeSparse makes a checkpoint whose data is one hole in the file.
func writeSparse(path string) error {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   [2]int   `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header := map[string]entry{}
	const size = openRows * openIn * 2
	for i := range int64(openTensors) {
		header[fmt.Sprintf("model.layers.%d.mlp.up_proj.weight", i)] = entry{"BF16", [2]int{openRows, openIn}, [2]int64{i * size, (i + 1) * size}}
	}
	doc, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(doc)%8 != 0 {
		doc = append(doc, ' ')
	}
	if err := os.WriteFile(path, append(binary.LittleEndian.AppendUint64(nil, uint64(len(doc))), doc...), 0o600); err != nil {
		return err
	}
	return os.Truncate(path, int64(8+len(doc))+openTensors*size)
}

// openAll opens a checkpoint and takes hold of every tensor.
func openAll(path string) error {
	f, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	for _, name := range f.Names() {
		if _, err := f.Tensor(name); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}

// saved returns a folder with the large model in bf16, and the bundled model's
// tokenizer, which GGUF files need.
func (h *host) saved(seed uint64) (dir string, err error) {
	dir = filepath.Join(h.dir, fmt.Sprintf("model-%d", seed))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	m, err := model.NewLlama(largeConfig(), seed)
	if err != nil {
		return "", err
	}
	tokenizer, err := bundle.Tokenizer()
	if err != nil {
		return "", err
	}
	return dir, tuning.SaveModel(dir, m, tensor.BF16, nil, map[string][]byte{"tokenizer.json": tokenizer}, false)
}

// savedBytes is the size of the large model's tensors in bf16.
var savedBytes = modelBytes(largeConfig())

// modelBytes counts the embedding, which is the head, and per layer four matrices of
// attention, three of the feed-forward block and two norms, with a last norm.
func modelBytes(c *model.Config) float64 {
	d, ff := c.HiddenSize, c.IntermediateSize
	return float64(2 * (c.VocabSize*d + c.Layers*(4*d*d+3*d*ff+2*d) + d))
}

func quantizeJobs(_ Options, threads []int) []job {
	j := job{threads: threads[len(threads)-1], unit: "MB", amount: savedBytes / 1e6, shape: "195 MB, bf16 to 4-bit, groups of 64"}
	j.prepare = func(ctx context.Context, h *host) (func() error, func(), error) {
		dir, err := h.saved(1)
		if err != nil {
			return nil, nil, err
		}
		src, err := checkpoint.OpenFolder(dir)
		if err != nil {
			return nil, nil, err
		}
		out := filepath.Join(h.dir, "quantized")
		o := quant.Options{Bits: 4, Group: 64}
		return func() error {
			_, err := quant.Checkpoint(ctx, src, out, &quant.RTN{Group: o.Group}, quant.CheckpointOptions{Options: o, Overwrite: true})
			return err
		}, func() { src.Close(); os.RemoveAll(out) }, nil
	}
	j.peers = copyPeer
	return []job{j}
}

func mergeJobs(_ Options, threads []int) []job {
	linear := mergeJob(threads, "2 x 195 MB, bf16, linear", "merge_method: linear\nmodels:\n", 2)
	ties := mergeJob(threads, "2 x 195 MB and base, bf16, TIES", "merge_method: ties\nmodels:\n", 3)
	kit := linear.peers
	linear.peers = func(ctx context.Context, h *host) ([]*runner, error) {
		copied, err := copyPeer(ctx, h)
		if err != nil {
			return nil, err
		}
		peers, err := kit(ctx, h)
		return append(copied, peers...), err
	}
	return []job{linear, ties}
}

// mergeJob merges two saved models at half weight, over a third where there are three,
// beside mergekit by the same recipe.
func mergeJob(threads []int, shape, text string, models uint64) job {
	j := job{threads: threads[len(threads)-1], unit: "MB", amount: savedBytes / 1e6, shape: shape}
	recipe := func(h *host) (string, error) {
		text := text
		for seed := range models {
			dir, err := h.saved(seed + 1)
			if err != nil {
				return "", err
			}
			if seed == 2 {
				text += fmt.Sprintf("base_model: %q\n", dir)
			} else {
				text += fmt.Sprintf("  - model: %q\n    parameters: {weight: 0.5, density: 0.5}\n", dir)
			}
		}
		if models == 2 {
			text = strings.ReplaceAll(text, ", density: 0.5", "")
		}
		return text, nil
	}
	j.prepare = func(ctx context.Context, h *host) (func() error, func(), error) {
		text, err := recipe(h)
		if err != nil {
			return nil, nil, err
		}
		r, err := merge.ParseRecipe([]byte(text))
		if err != nil {
			return nil, nil, err
		}
		out := filepath.Join(h.dir, "merged")
		return func() error {
			_, err := merge.Run(ctx, r, out, merge.RunOptions{Overwrite: true})
			return err
		}, func() { os.RemoveAll(out) }, nil
	}
	j.peers = func(ctx context.Context, h *host) ([]*runner, error) {
		text, err := recipe(h)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(h.dir, "recipe.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
		server, err := h.python(ctx, "merge_peer.py", bench.MergePeer, path)
		if err != nil {
			return nil, err
		}
		r := server.runner(0, savedBytes/1e6, map[string]any{})
		r.close = server.close
		return []*runner{r}, nil
	}
	return j
}

// copyPeer copies the model's file and waits until it is on the disk, as the verbs do.
func copyPeer(ctx context.Context, h *host) ([]*runner, error) {
	dir, err := h.saved(1)
	if err != nil {
		return nil, err
	}
	to := filepath.Join(h.dir, "copy")
	step := func() error { return copyFile(filepath.Join(dir, "model.safetensors"), to) }
	return []*runner{{name: "file copy", sample: h.sampler(ctx, step, savedBytes/1e6), close: func() { os.Remove(to) }}}, nil
}

// copyFile reads and writes every byte; file systems that share extents would not.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}
