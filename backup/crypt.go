package backup

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/quoratedb/quorate/backup/target"
)

// A key is of what one attempt has written: an identity of age, which is made for that, and kept at the target encrypted to the recipients. So recipients
// change without a data file being written anew, and whoever resumes a backup need not be able to read it.
type key struct {
	identity *age.X25519Identity
	secret   []byte // for the HMAC of the manifest
}

type keyDocument struct {
	// Age is the identity, encrypted.
	Age []byte `json:"age"`
}

const kindKey = "key"

func newKey() (*key, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("backup: make a key: %w", err)
	}
	return keyOf(identity)
}

func keyOf(identity *age.X25519Identity) (*key, error) {
	secret, err := hkdf.Key(sha256.New, []byte(identity.String()), nil, "quorate backup manifest", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return &key{identity: identity, secret: secret}, nil
}

func encrypt(content []byte, recipients ...age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		return nil, fmt.Errorf("backup: encrypt: %w", err)
	}
	if _, err := w.Write(content); err != nil {
		return nil, fmt.Errorf("backup: encrypt: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("backup: encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// document is what is kept of a key.
func (k *key) document(recipients []age.Recipient) ([]byte, error) {
	encrypted, err := encrypt([]byte(k.identity.String()), recipients...)
	if err != nil {
		return nil, err
	}
	return encodeDocument(kindKey, keyDocument{Age: encrypted}, nil)
}

// openKey decrypts a key with the identities that were given.
func (v *Vault) openKey(ctx context.Context, name string) (*key, error) {
	content, err := v.read(ctx, keyName(name))
	if errors.Is(err, target.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", keyName(name), damagedf("it is missing, and with it what is encrypted to it"))
	}
	if err != nil {
		return nil, err
	}
	var document keyDocument
	if err := decodeDocument(kindKey, content, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", keyName(name), err)
	}
	if len(v.options.Identities) == 0 {
		return nil, fmt.Errorf("%w: it is encrypted; give --identity", ErrKey)
	}
	plain, err := age.Decrypt(bytes.NewReader(document.Age), v.options.Identities...)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return nil, fmt.Errorf("%w: it is encrypted to others than those that were given", ErrKey)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyName(name), damagedf("%v", err))
	}
	text, err := io.ReadAll(io.LimitReader(plain, 1<<10))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyName(name), damagedf("%v", err))
	}
	identity, err := age.ParseX25519Identity(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyName(name), damagedf("there is no key in it"))
	}
	return keyOf(identity)
}

// Rotate encrypts the keys of a backup to other recipients. The data files stay as they are; who could read them until now and has kept the key still can.
func (v *Vault) Rotate(ctx context.Context, b *Backup, recipients []age.Recipient) error {
	for _, name := range b.Keys {
		k, err := v.openKey(ctx, name)
		if err != nil {
			return err
		}
		content, err := k.document(recipients)
		if err != nil {
			return err
		}
		if err := v.target.Put(ctx, keyName(name), content); err != nil {
			return fmt.Errorf("%s: %w", keyName(name), err)
		}
	}
	return nil
}

// keys are those of a backup, and none if it is not encrypted. The last has written the manifest.
func (v *Vault) keys(ctx context.Context, b *Backup) (keys []*key, err error) {
	for _, name := range b.Keys {
		k, err := v.openKey(ctx, name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) > 0 && !authentic(kindManifest, b.content, keys[len(keys)-1].secret) {
		return nil, fmt.Errorf("the manifest of %s: %w", b.ID, damagedf("somebody has written it who could not read the backup"))
	}
	return keys, nil
}

func identitiesOf(keys []*key) (all []age.Identity) {
	for _, k := range keys {
		all = append(all, k.identity)
	}
	return all
}
