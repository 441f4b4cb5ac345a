package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The names of files in a PEFT adapter folder.
const (
	adapterConfigName  = "adapter_config.json"
	adapterWeightsName = "adapter_model.safetensors"
)

// Adapter is an open PEFT folder: its configuration and its tensors.
type Adapter struct {
	Config map[string]any // adapter_config.json as encoding/json decodes it
	*File
}

// OpenAdapter opens a PEFT adapter folder.
func OpenAdapter(dir string) (*Adapter, error) {
	path := filepath.Join(dir, adapterConfigName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w; an adapter folder holds it", err)
	}
	a := &Adapter{}
	if err := json.Unmarshal(data, &a.Config); err != nil {
		return nil, malformed(path, "%v", err)
	}
	if a.Config == nil {
		return nil, malformed(path, "it is no JSON object")
	}
	if a.File, err = Open(filepath.Join(dir, adapterWeightsName)); errors.Is(err, fs.ErrNotExist) {
		return nil, missing(dir, "%s is not there; older adapters hold adapter_model.bin, a pickle: save it as safetensors first", adapterWeightsName)
	} else if err != nil {
		return nil, err
	}
	return a, nil
}

// SaveAdapter writes a PEFT adapter folder in one step. A folder of an adapter that
// stands there is replaced, any other is not.
func SaveAdapter(dir string, config map[string]any, tensors []NamedTensor) error {
	dir, err := target(dir, true)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, configName)); err == nil {
		return fmt.Errorf("checkpoint: %s holds a model, which an adapter does not replace; choose another name", dir)
	}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("checkpoint: %s: %w", adapterConfigName, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return fmt.Errorf("checkpoint: %w", explain(err))
	}
	temp := temporary(dir)
	if err := os.Mkdir(temp, 0o777); err != nil {
		return fmt.Errorf("checkpoint: create %s: %w", dir, explain(err))
	}
	defer removeQuietly(temp)
	if err := WriteFile(filepath.Join(temp, adapterWeightsName), tensors, map[string]string{"format": "pt"}); err != nil {
		return err
	}
	if err := WriteBytes(filepath.Join(temp, adapterConfigName), append(data, '\n')); err != nil {
		return err
	}
	return install(temp, dir)
}
