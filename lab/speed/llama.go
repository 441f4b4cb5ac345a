package speed

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tare/engine/checkpoint"
)

// llamaTypes are the GGUF types that stand beside each storage.
var llamaTypes = map[string][]checkpoint.GGMLType{
	"f32": {checkpoint.GGMLF32}, "bf16": {checkpoint.GGMLBF16, checkpoint.GGMLF16}, "4-bit": {checkpoint.GGMLQ4_0},
}

// llamaRunners returns llama.cpp decoding the same model from the files that Tare's
// converter writes.
func (h *host) llamaRunners(ctx context.Context, storage string, batch, threads int) ([]*runner, error) {
	if h.o.Llama == "" {
		return nil, errors.New("--llama names no program that runs llama.cpp; parity/README.md says how it is built")
	}
	program, err := exec.LookPath(h.o.Llama)
	if err != nil {
		return nil, err
	}
	var peers []*runner
	for _, kind := range llamaTypes[storage] {
		path, err := h.savedGGUF(ctx, kind)
		if err != nil {
			return peers, err
		}
		p, err := launch(exec.CommandContext(ctx, program, path, "rate", strconv.Itoa(threads), strconv.Itoa(batch)), h.dir)
		if err != nil {
			return peers, err
		}
		r := p.runner(0, float64(decodeTokens*batch), map[string]any{"tokens": decodeTokens, "seconds": h.seconds})
		r.name += " " + strings.ToUpper(kind.String())
		r.close = p.close
		peers = append(peers, r)
	}
	return peers, nil
}

// savedGGUF returns a GGUF file with the large model.
func (h *host) savedGGUF(ctx context.Context, kind checkpoint.GGMLType) (string, error) {
	path := filepath.Join(h.dir, "model-"+kind.String()+".gguf")
	if h.written[path] {
		return path, nil
	}
	dir, err := h.saved(1)
	if err != nil {
		return "", err
	}
	src, err := checkpoint.OpenFolder(dir)
	if err != nil {
		return "", err
	}
	defer src.Close()
	if err := checkpoint.WriteGGUF(ctx, path, src, checkpoint.ConvertOptions{Type: kind}); err != nil {
		return "", err
	}
	h.written[path] = true
	return path, nil
}
