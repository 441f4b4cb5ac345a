package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
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
)

// AuxiliaryFiles lists the files beside the weights that a copy of a model needs,
// where it has them.
func AuxiliaryFiles() []string {
	return []string{
		"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
		"vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja",
	}
}

// Folder is an open model folder: config.json and one file of weights or several
// shards.
type Folder struct {
	Dir    string
	Config []byte // config.json, nil if there is none

	shards []*File
	names  []string
	holder map[string]*File
}

// OpenFolder opens a model folder, or one .safetensors file with the config.json
// that stands beside it. Files are mapped; only headers are read.
func OpenFolder(path string) (*Folder, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	f := &Folder{Dir: path, holder: map[string]*File{}}
	if st.IsDir() {
		err = f.openWeights()
	} else {
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
	f.shards = append(f.shards, file)
	for _, t := range file.Names() {
		if other, twice := f.holder[t]; twice {
			return malformed(name, "tensor %q is in %s as well", t, other.name)
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
