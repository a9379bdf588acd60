// What Hadoop itself makes of the configuration files and token files here. Run by `make`.

import java.io.DataOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.security.token.delegation.DelegationTokenIdentifier;
import org.apache.hadoop.io.Text;
import org.apache.hadoop.security.Credentials;
import org.apache.hadoop.security.token.Token;
import org.apache.hadoop.yarn.conf.YarnConfiguration;

public class Oracle {
  interface Getter {
    Object get() throws Exception;
  }

  static void print(String form, String key, Getter getter) {
    String value;
    try {
      value = String.valueOf(getter.get()).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t");
    } catch (Exception e) {
      value = "!" + e.getClass().getSimpleName();
    }
    System.out.println(form + "\t" + key + "\t" + value);
  }

  static void values(String[] files) throws Exception {
    HdfsConfiguration.init();
    new YarnConfiguration();
    Configuration conf = new Configuration(false);
    for (String file : files) {
      conf.addResource(new File(file).toURI().toURL());
    }
    TreeSet<String> keys = new TreeSet<>();
    for (Map.Entry<String, String> entry : conf) {
      keys.add(entry.getKey());
    }
    for (String key : keys) {
      print("get", key, () -> conf.get(key));
      if (key.startsWith("int.")) print("int", key, () -> conf.getLong(key, -7));
      if (key.startsWith("size.")) print("size", key, () -> conf.getLongBytes(key, -7));
      if (key.startsWith("time.")) print("time", key, () -> conf.getTimeDuration(key, -7, TimeUnit.MICROSECONDS, TimeUnit.MICROSECONDS));
      if (key.startsWith("bool.")) print("bool", key, () -> conf.getBoolean(key, false));
      if (key.startsWith("list.")) print("list", key, () -> String.join(";", conf.getTrimmedStringCollection(key)));
    }
  }

  static void defaults(String[] keys) throws Exception {
    Configuration conf = new Configuration(false);
    for (String file : Arrays.asList("core-default.xml", "hdfs-default.xml", "yarn-default.xml")) {
      conf.addResource(file);
    }
    for (String key : keys) {
      System.out.println(key + "\t" + conf.getRaw(key));
    }
  }

  static void tokens(String folder) throws Exception {
    Credentials credentials = new Credentials();
    DelegationTokenIdentifier id =
        new DelegationTokenIdentifier(new Text("alice@EXAMPLE.ORG"), new Text("rm"), new Text("oozie"));
    id.setIssueDate(1700000000000L);
    id.setMaxDate(1700604800000L);
    id.setSequenceNumber(300);
    id.setMasterKeyId(-5);
    byte[] password = new byte[20];
    Arrays.fill(password, (byte) 0x80);
    credentials.addToken(new Text("10.0.0.1:8020"),
        new Token<>(id.getBytes(), password, new Text("HDFS_DELEGATION_TOKEN"), new Text("10.0.0.1:8020")));
    credentials.addToken(new Text(""), new Token<>(new byte[200], password, new Text("YARN_AM_RM_TOKEN"), new Text("")));
    credentials.addSecretKey(new Text("gr\u00fc\u00df"), "secret".getBytes(StandardCharsets.UTF_8));
    for (Credentials.SerializedFormat format : Credentials.SerializedFormat.values()) {
      File file = new File(folder, format.name().toLowerCase() + ".tokens");
      try (DataOutputStream out = new DataOutputStream(new FileOutputStream(file))) {
        credentials.writeTokenStorageToStream(out, format);
      }
    }
  }

  static void read(String[] files) throws Exception {
    for (String file : files) {
      Credentials credentials = Credentials.readTokenStorageFile(new File(file), new Configuration(false));
      for (Token<?> token : credentials.getAllTokens()) {
        System.out.println(file + "\t" + token.getKind() + "\t" + token.getService() + "\t" + token.getIdentifier().length);
      }
      for (Text alias : credentials.getAllSecretKeys()) {
        System.out.println(file + "\tsecret\t" + alias + "\t" + credentials.getSecretKey(alias).length);
      }
    }
  }

  public static void main(String[] args) throws Exception {
    String[] rest = Arrays.copyOfRange(args, 1, args.length);
    switch (args[0]) {
      case "values": values(rest); break;
      case "defaults": defaults(rest); break;
      case "tokens": tokens(rest[0]); break;
      case "read": read(rest); break;
      default: throw new IllegalArgumentException(args[0]);
    }
  }
}
