package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/method/adapt"
)

// bundled is the model argument that names the checkpoint inside the program. A
// folder of that name is ./bundled.
const bundled = "bundled"

// resolveModel returns the path of a model argument.
func resolveModel(name string) (string, error) {
	if name != bundled {
		return name, nil
	}
	return bundle.Folder()
}

// openModel opens the files of a model argument.
func openModel(name string) (*checkpoint.Folder, error) {
	path, err := resolveModel(name)
	if err != nil {
		return nil, err
	}
	return checkpoint.OpenFolder(path)
}

// loaded is a model that runs, with its tokenizer.
type loaded struct {
	folder *checkpoint.Folder
	net    model.Causal
	tok    *text.Tokenizer
}

func (l *loaded) Close() error { return l.folder.Close() }

// loadModel loads a model argument and, where adapterDir names one, its adapter. The
// verb stands in the errors about what it needs.
func loadModel(verb, name, adapterDir string) (*loaded, error) {
	folder, err := openModel(name)
	if err != nil {
		return nil, err
	}
	l := &loaded{folder: folder}
	if err := l.load(verb, adapterDir); err != nil {
		folder.Close()
		return nil, err
	}
	return l, nil
}

func (l *loaded) load(verb, adapterDir string) (err error) {
	if l.folder.Config == nil {
		return fmt.Errorf("%s has no config.json, which tells tare %s how the tensors make a model; copy it from the model they belong to: %w", l.folder.Dir, verb, model.ErrConfig)
	}
	if l.tok, err = readTokenizer(verb, l.folder); err != nil {
		return err
	}
	// An adapter may write into the matrices, which a mapped file does not allow.
	if l.net, err = model.LoadCausal(l.folder.Config, l.folder, model.LoadOptions{Keep: adapterDir == ""}); err != nil {
		return err
	}
	if err := checkVocabulary(l.folder.Dir, l.tok, l.net.Info()); err != nil {
		return err
	}
	if adapterDir == "" {
		return nil
	}
	if _, err := adapt.Load(adapterDir, l.net); err != nil {
		return badInput{err}
	}
	return nil
}

// checkVocabulary refuses a tokenizer with entries that the model has no row for.
func checkVocabulary(dir string, tok *text.Tokenizer, c *model.Config) error {
	if tok.VocabSize() <= c.VocabSize {
		return nil
	}
	return fmt.Errorf("%s: tokenizer.json has %d entries, the model's vocab_size is %d; they belong to different models: %w", dir, tok.VocabSize(), c.VocabSize, model.ErrConfig)
}

// readTokenizer reads the tokenizer.json beside a model's weights.
func readTokenizer(verb string, folder *checkpoint.Folder) (*text.Tokenizer, error) {
	raw, err := folder.Read("tokenizer.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no tokenizer.json, which tare %s needs to read text; copy it from the model that this one was made of: %w", folder.Dir, verb, fs.ErrNotExist)
	} else if err != nil {
		return nil, err
	}
	tok, err := text.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: tokenizer.json: %w", folder.Dir, err)
	}
	return tok, nil
}
