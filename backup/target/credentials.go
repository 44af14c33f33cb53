package target

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// metadataTimeout bounds each question to the machine's metadata, which answer at once where there are any.
const metadataTimeout = 2 * time.Second

// findCredentials looks at the usual places in the usual order: the environment, the shared files (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, AWS_PROFILE),
// and what the environment says about roles and the machine's metadata, unless AWS_EC2_METADATA_DISABLED is true.
func findCredentials() (*credentials.Credentials, error) {
	places := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	if asks := firstOf(os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")); asks != "" ||
		!strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		places = append(places, &credentials.IAM{Client: &http.Client{Timeout: metadataTimeout}})
	}
	problem := ""
	for _, place := range places {
		found := credentials.New(place)
		value, err := found.GetWithContext(nil)
		if err == nil && value.AccessKeyID != "" && value.SecretAccessKey != "" {
			return found, nil
		}
		if _, isFile := place.(*credentials.FileAWSCredentials); isFile && err != nil && !errors.Is(err, fs.ErrNotExist) {
			problem = "; the shared files give none for this profile" // and not what is wrong with them: a message of the parser repeats their lines
		}
	}
	return nil, fmt.Errorf("backup target: there are no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials "+
		"(AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE)%s", problem)
}

// userInfo is what stands before the host of a URL, as of a proxy.
var userInfo = regexp.MustCompile(`//[^/@\s"]*@`)

// clean is an error whose text is without secrets.
type clean struct {
	text string
	error
}

// Error implements error.
func (c clean) Error() string { return c.text }

// Unwrap gives the error for errors.Is.
func (c clean) Unwrap() error { return c.error }

// withoutSecrets takes out of an error's text what it must not repeat. Libraries do not put it there; answers of servers and proxies may.
func withoutSecrets(err error, of *credentials.Credentials) error {
	text := userInfo.ReplaceAllString(err.Error(), "//***@")
	if value, problem := of.GetWithContext(nil); problem == nil {
		for _, secret := range []string{value.SecretAccessKey, value.SessionToken} {
			if secret != "" {
				text = strings.ReplaceAll(text, secret, "***")
			}
		}
	}
	return clean{text, err}
}
