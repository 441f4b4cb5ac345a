package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tare/engine/tensor"
)

// FolderOptions shapes a written folder. The zero value will do.
type FolderOptions struct {
	ShardBytes int64             // most bytes of tensors in one file; 0 means 5 GB
	Overwrite  bool              // replace a model or adapter folder of that name
	Metadata   map[string]string // of the weight files; nil means {"format": "pt"}, which transformers asks for
	Resume     string            // a mark of all that settles the bytes: an interrupted writer leaves whole files to the next with the same; empty for nothing
}

const defaultShardBytes = 5_000_000_000

// FolderWriter writes a model folder. It is built under a temporary name and takes
// its own at Close.
type FolderWriter struct {
	dir, temp string
	overwrite bool
	metadata  map[string]string
	shards    [][]Spec
	total     int64
	next      int      // shard of the coming tensor
	w         *Writer  // of shard next-1, nil between shards
	mark      *os.File // of a folder that can be resumed, nil for others
	ended     bool
}

// CreateFolder starts a folder at dir that will hold the tensors of specs, in that
// order, in as many files as ShardBytes asks for.
func CreateFolder(dir string, specs []Spec, o FolderOptions) (*FolderWriter, error) {
	dir, err := target(dir, o.Overwrite)
	if err != nil {
		return nil, err
	}
	w := &FolderWriter{dir: dir, overwrite: o.Overwrite, metadata: o.Metadata}
	if w.metadata == nil {
		w.metadata = map[string]string{"format": "pt"}
	}
	limit := o.ShardBytes
	if limit <= 0 {
		limit = defaultShardBytes
	}
	if _, _, err := buildHeader(filepath.Base(dir), specs, nil); err != nil { // all names and shapes, before anything is written
		return nil, err
	}
	if w.shards, w.total, err = split(specs, limit); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", explain(err))
	}
	if err := w.begin(o.Resume); err != nil {
		return nil, err
	}
	if len(specs) > 0 || w.next > 0 {
		return w, nil
	}
	if err = w.open(); err == nil { // an empty model has an empty file
		err = w.closeShard()
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// begin makes the folder under its temporary name, where there is room for what is not
// yet written.
func (w *FolderWriter) begin(resume string) error {
	if resume != "" {
		if err := w.takeUp(resume); err != nil {
			return err
		}
	}
	left := w.total
	for _, shard := range w.shards[:w.next] {
		for _, s := range shard {
			n, _ := s.bytes() // split has seen it
			left -= n
		}
	}
	if err := checkRoom(w.dir, left); err != nil {
		w.Suspend()
		return err
	}
	if resume != "" {
		return nil
	}
	w.temp = temporary(w.dir)
	if err := os.Mkdir(w.temp, 0o777); err != nil {
		return fmt.Errorf("checkpoint: create %s: %w", w.dir, explain(err))
	}
	return nil
}

// split cuts the tensors into shards of at most limit bytes; one that is larger has
// a shard to itself.
func split(specs []Spec, limit int64) (shards [][]Spec, total int64, err error) {
	var shard []Spec
	var size int64
	for _, s := range specs {
		n, err := s.bytes()
		if err != nil {
			return nil, 0, fmt.Errorf("checkpoint: %w", err)
		}
		if len(shard) > 0 && size+n > limit {
			shards = append(shards, shard)
			shard, size = nil, 0
		}
		shard = append(shard, s)
		size += n
		total += n
	}
	return append(shards, shard), total, nil
}

// shardName returns the file name of shard i.
func (w *FolderWriter) shardName(i int) string {
	if len(w.shards) == 1 {
		return weightsName
	}
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(w.shards))
}

// open starts the next shard.
func (w *FolderWriter) open() (err error) {
	w.w, err = Create(filepath.Join(w.temp, w.shardName(w.next)), w.shards[w.next], w.metadata)
	w.next++
	return err
}

func (w *FolderWriter) closeShard() error {
	if w.w == nil {
		return nil
	}
	err := w.w.Close()
	w.w = nil
	return err
}

// Write writes the next tensor, which must be as announced. After an error call
// Abort.
func (w *FolderWriter) Write(t *tensor.Tensor) error {
	out, err := w.current()
	if err != nil {
		return err
	}
	return out.Write(t)
}

// current returns the writer of the shard that takes the next tensor.
func (w *FolderWriter) current() (*Writer, error) {
	if w.ended {
		return nil, fmt.Errorf("checkpoint: %s: the writer has ended", w.dir)
	}
	if w.w == nil || w.w.next == len(w.w.specs) {
		if err := w.closeShard(); err != nil {
			return nil, err
		}
		if w.next == len(w.shards) {
			return nil, fmt.Errorf("checkpoint: %s: all announced tensors are written", w.dir)
		}
		if err := w.open(); err != nil {
			return nil, err
		}
	}
	return w.w, nil
}

// File writes another file of the folder.
func (w *FolderWriter) File(name string, data []byte) error {
	path, err := w.beside(name)
	if err != nil {
		return err
	}
	return WriteBytes(path, data)
}

// beside returns where another file of the folder goes.
func (w *FolderWriter) beside(name string) (string, error) {
	if w.ended {
		return "", fmt.Errorf("checkpoint: %s: the writer has ended", w.dir)
	}
	if !plainName(name) {
		return "", fmt.Errorf("checkpoint: %s: %q is not the plain name of a file", w.dir, name)
	}
	return filepath.Join(w.temp, name), nil
}

// CopyFrom copies the named files of another folder, those that it has.
func (w *FolderWriter) CopyFrom(src *Folder, names ...string) error {
	for _, name := range names {
		to, err := w.beside(name)
		if err != nil {
			return err
		}
		if src.made == nil {
			err = copyFile(to, filepath.Join(src.Dir, name))
		} else {
			var data []byte
			if data, err = src.made(name); err == nil {
				err = WriteBytes(to, data)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer in.Close()
	o, err := createOutput(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(o.f, in); err != nil {
		return o.fail(err)
	}
	return o.commit()
}

// Close ends the last file, writes the index where there are several, and gives the
// folder its name. On an error nothing is left behind.
func (w *FolderWriter) Close() error {
	if w.ended {
		return fmt.Errorf("checkpoint: %s: the writer has ended", w.dir)
	}
	defer w.Abort()
	if err := w.closeShard(); err != nil {
		return err
	}
	if w.next < len(w.shards) {
		return missing(w.dir, "tensor %q was announced and not written", w.shards[w.next][0].Name)
	}
	if len(w.shards) > 1 {
		index, err := w.index()
		if err != nil {
			return err
		}
		if err := w.File(indexName, index); err != nil {
			return err
		}
	}
	if w.mark != nil {
		if err := os.Remove(filepath.Join(w.temp, resumeName)); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return install(w.temp, w.dir)
}

// index returns model.safetensors.index.json.
func (w *FolderWriter) index() ([]byte, error) {
	weightMap := map[string]string{}
	for i, shard := range w.shards {
		for _, s := range shard {
			weightMap[s.Name] = w.shardName(i)
		}
	}
	data, err := json.MarshalIndent(map[string]any{
		"metadata": map[string]any{"total_size": w.total}, "weight_map": weightMap,
	}, "", "  ")
	return append(data, '\n'), err
}

// Abort removes what was written. After Close it does nothing.
func (w *FolderWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	if w.w != nil {
		w.w.Abort()
	}
	if w.temp != "" {
		removeQuietly(w.temp)
	}
	if w.mark != nil {
		w.mark.Close()
	}
}

// target returns the absolute place of a folder to be written and refuses one that
// must not be replaced: anything but an empty folder, or, when overwriting, a folder
// of a model or an adapter.
func target(dir string, overwrite bool) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0:
		return dir, nil
	case err != nil:
		return "", fmt.Errorf("checkpoint: %w", err)
	case !overwrite:
		return "", fmt.Errorf("checkpoint: %s: %w; choose another name or ask to overwrite it", dir, fs.ErrExist)
	}
	for _, e := range entries {
		switch e.Name() {
		case configName, weightsName, indexName, adapterConfigName:
			return dir, nil
		}
	}
	return "", fmt.Errorf("checkpoint: %s: %w and holds no model or adapter, so it is not overwritten; choose another name", dir, fs.ErrExist)
}

// install gives a finished folder its name; what stood there is removed once the
// new one is in place, and put back if that fails.
func install(temp, dir string) error {
	syncFolder(temp)
	old := temporary(dir)
	err := os.Rename(dir, old)
	replaced := err == nil
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		if replaced {
			err = errors.Join(err, os.Rename(old, dir))
		}
		return fmt.Errorf("checkpoint: write %s: %w", dir, explain(err))
	}
	if replaced {
		removeQuietly(old)
	}
	syncFolder(filepath.Dir(dir))
	return nil
}
