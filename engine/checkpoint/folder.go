package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tare/engine/tensor"
)

// The names of files in a Hugging Face model folder.
const (
	configName  = "config.json"
	weightsName = "model.safetensors"
	indexName   = "model.safetensors.index.json"
	ggufSuffix  = ".gguf"
)

// AuxiliaryFiles lists the files beside the weights that a copy of a model needs,
// where it has them.
func AuxiliaryFiles() []string {
	return []string{
		"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
		"vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja", "preprocessor_config.json",
	}
}

// Folder is an open model folder: config.json and one file of weights or several
// shards. A GGUF file of a llama-like model is one as well: its tensors go by the names
// and the order of rows that a folder has, and the files beside them, config.json and
// the tokenizer's, are made from its metadata.
type Folder struct {
	Dir    string
	Config []byte // config.json, nil if there is none

	shards []weights
	names  []string
	holder map[string]weights
	made   func(name string) ([]byte, error) // the files beside the weights of a GGUF file, nil for others
}

// weights is one file of tensors.
type weights interface {
	Names() []string
	Info(name string) (Info, bool)
	Tensor(name string) (*tensor.Tensor, error)
	Metadata() map[string]string
	Close() error
}

// OpenFolder opens a model folder, one .safetensors file with the config.json that
// stands beside it, or one GGUF file. Files are mapped; only headers are read.
func OpenFolder(path string) (*Folder, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	f := &Folder{Dir: path, holder: map[string]weights{}}
	switch {
	case st.IsDir():
		err = f.openWeights()
	case isGGUF(path):
		f.Dir = filepath.Dir(path)
		err = f.openGGUF(path)
	default:
		f.Dir = filepath.Dir(path)
		err = f.openShard(filepath.Base(path))
	}
	if err == nil {
		f.Config, err = f.Read(configName)
		if errors.Is(err, fs.ErrNotExist) {
			f.Config, err = nil, nil
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Folder) has(name string) bool {
	st, err := os.Stat(filepath.Join(f.Dir, name))
	return err == nil && st.Mode().IsRegular()
}

// openWeights opens the single file, or what the index names.
func (f *Folder) openWeights() error {
	switch {
	case f.has(weightsName):
		return f.openShard(weightsName)
	case f.has(indexName):
		return f.openIndex()
	case f.has(adapterConfigName):
		return missing(f.Dir, "this is an adapter folder, which holds no model; name the model it was made for")
	case f.has("pytorch_model.bin") || f.has("pytorch_model.bin.index.json"):
		return missing(f.Dir, "the weights are a PyTorch pickle; save the model as safetensors first")
	}
	if found, _ := filepath.Glob(filepath.Join(f.Dir, "*"+ggufSuffix)); len(found) > 0 {
		return missing(f.Dir, "the folder has no %s but %s; name that file", weightsName, filepath.Base(found[0]))
	}
	return missing(f.Dir, "neither %s nor %s is there", weightsName, indexName)
}

// openIndex opens the shards that model.safetensors.index.json names.
func (f *Folder) openIndex() error {
	data, err := f.Read(indexName)
	if err != nil {
		return err
	}
	weightMap, err := parseIndex(data)
	if err != nil {
		return err
	}
	shards := map[string]bool{}
	for _, shard := range weightMap {
		shards[shard] = true
	}
	for _, shard := range sortedKeys(shards) {
		if !f.has(shard) {
			return missing(f.Dir, "shard %s, which %s names, is not there; download it", shard, indexName)
		}
		if err := f.openShard(shard); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(weightMap) {
		info, ok := f.Info(name)
		if !ok || info.File != weightMap[name] {
			return malformed(indexName, "tensor %q should be in %s, which does not hold it", name, weightMap[name])
		}
	}
	return nil
}

// parseIndex returns the file of every tensor.
func parseIndex(data []byte) (map[string]string, error) {
	weightMap := map[string]string{}
	entry := func(name string, dec *json.Decoder) error {
		var shard *string
		if err := dec.Decode(&shard); err != nil || shard == nil {
			return malformed(indexName, "tensor %q: the shard is not a string", name)
		}
		if !plainName(*shard) {
			return malformed(indexName, "tensor %q: shard %q is not the plain name of a file", name, *shard)
		}
		if other, twice := weightMap[name]; twice {
			return malformed(indexName, "tensor %q is in the weight_map twice, in %s and %s", name, other, *shard)
		}
		weightMap[name] = *shard
		return nil
	}
	found := false
	err := eachKey(indexName, "the index", data, func(key string, dec *json.Decoder) error {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return malformed(indexName, "%s: %v", key, err)
		}
		if key != "weight_map" {
			return nil
		}
		found = true
		return eachKey(indexName, "weight_map", raw, entry)
	})
	if err == nil && !found {
		err = malformed(indexName, "there is no weight_map")
	}
	return weightMap, err
}

// plainName reports whether name is that of a file in the folder itself.
func plainName(name string) bool {
	return filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, `/\`)
}

// openShard adds a file's tensors to the folder's.
func (f *Folder) openShard(name string) error {
	file, err := Open(filepath.Join(f.Dir, name))
	if err != nil {
		return err
	}
	return f.add(name, file)
}

// openGGUF takes a GGUF file for the whole folder.
func (f *Folder) openGGUF(path string) error {
	l, err := openLlamaGGUF(path)
	if err != nil {
		return err
	}
	f.made = l.file
	return f.add(filepath.Base(path), l)
}

// isGGUF reports whether the file at path is, or is called, a GGUF file.
func isGGUF(path string) bool {
	if strings.EqualFold(filepath.Ext(path), ggufSuffix) {
		return true
	}
	in, err := os.Open(path)
	if err != nil {
		return false
	}
	defer in.Close()
	var magic [len(ggufMagic)]byte
	_, err = io.ReadFull(in, magic[:])
	return err == nil && string(magic[:]) == ggufMagic
}

// add takes a file's tensors among the folder's.
func (f *Folder) add(name string, file weights) error {
	f.shards = append(f.shards, file)
	for _, t := range file.Names() {
		if other, twice := f.Info(t); twice {
			return malformed(name, "tensor %q is in %s as well", t, other.File)
		}
		f.holder[t] = file
		f.names = append(f.names, t)
	}
	return nil
}

// Names returns the tensors' names, shard by shard in the order of their data.
func (f *Folder) Names() []string { return f.names }

// Info returns what the files say of a tensor.
func (f *Folder) Info(name string) (Info, bool) {
	file, ok := f.holder[name]
	if !ok {
		return Info{}, false
	}
	return file.Info(name)
}

// Tensor returns a tensor over the bytes of its file.
func (f *Folder) Tensor(name string) (*tensor.Tensor, error) {
	file, ok := f.holder[name]
	if !ok {
		return nil, missing(f.Dir, "no tensor %q among its %d", name, len(f.names))
	}
	return file.Tensor(name)
}

// Forget is File.Forget; what is not mapped as it is stays.
func (f *Folder) Forget(name string, lo, hi int) {
	if file, ok := f.holder[name].(*File); ok {
		file.Forget(name, lo, hi)
	}
}

// Metadata returns the notes of all files together.
func (f *Folder) Metadata() map[string]string {
	all := map[string]string{}
	for _, file := range f.shards {
		for k, v := range file.Metadata() {
			all[k] = v
		}
	}
	return all
}

// Read returns another file of the folder, such as tokenizer.json. One that is not
// there is an fs.ErrNotExist.
func (f *Folder) Read(name string) ([]byte, error) {
	if !plainName(name) {
		return nil, fmt.Errorf("checkpoint: %q is not the plain name of a file", name)
	}
	if f.made != nil {
		return f.made(name)
	}
	data, err := os.ReadFile(filepath.Join(f.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return data, nil
}

// Close unmaps the files.
func (f *Folder) Close() error {
	var errs []error
	for _, file := range f.shards {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}
