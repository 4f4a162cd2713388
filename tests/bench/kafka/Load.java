import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * The Java load generator: kafka-clients with its defaults, against whichever broker it is pointed at.
 *
 * <p>create BOOTSTRAP TOPIC NAME=VALUE... | produce BOOTSTRAP TOPIC RECORDS BYTES | single BOOTSTRAP TOPIC RECORDS BYTES
 * | pace BOOTSTRAP TOPIC RATE SECONDS BYTES | consume BOOTSTRAP TOPIC RECORDS. `single` sends every record in a request
 * of its own; `pace` does not let the client wait for company (linger.ms=0), because that wait would be most of what it
 * measures. Prints one line of NAME=VALUE. The first tenth warms up and is not timed.
 */
public class Load {
  public static void main(String[] args) throws Exception {
    String topic = args[2];
    switch (args[0]) {
      case "create" -> create(args[1], topic, List.of(args).subList(3, args.length));
      case "produce" -> produce(args[1], topic, Integer.parseInt(args[3]), Integer.parseInt(args[4]), Map.of());
      case "single" -> produce(args[1], topic, Integer.parseInt(args[3]), Integer.parseInt(args[4]),
          Map.of("batch.size", 0, "linger.ms", 0));
      case "pace" -> pace(args[1], topic, Integer.parseInt(args[3]), Integer.parseInt(args[4]), Integer.parseInt(args[5]));
      case "consume" -> consume(args[1], topic, Integer.parseInt(args[3]));
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  static void create(String bootstrap, String topic, List<String> settings) throws Exception {
    Map<String, String> configs = new HashMap<>();
    for (String setting : settings) configs.put(setting.split("=", 2)[0], setting.split("=", 2)[1]);
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
      admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(configs))).all().get();
    }
    System.out.println("created=1");
  }

  static KafkaProducer<byte[], byte[]> producer(String bootstrap, Map<String, Object> settings) {
    Map<String, Object> all = new HashMap<>(settings);
    all.put("bootstrap.servers", bootstrap);
    all.put("acks", "all");
    return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
  }

  /** Bytes that do not repeat, so that nothing on the way is spared. */
  static byte[] value(int bytes) {
    byte[] value = new byte[bytes];
    new Random(1).nextBytes(value);
    return value;
  }

  static void produce(String bootstrap, String topic, int records, int bytes, Map<String, Object> settings)
      throws Exception {
    byte[] value = value(bytes);
    int warm = records / 10;
    try (var producer = producer(bootstrap, settings)) {
      for (int at = 0; at < warm; at++) producer.send(new ProducerRecord<>(topic, value));
      producer.flush();
      var failed = new ConcurrentLinkedQueue<Exception>();
      long begin = System.nanoTime();
      for (int at = warm; at < records; at++) {
        producer.send(new ProducerRecord<>(topic, value), (done, error) -> { if (error != null) failed.add(error); });
      }
      producer.flush();
      double seconds = (System.nanoTime() - begin) / 1e9;
      if (!failed.isEmpty()) throw failed.peek();
      System.out.printf(Locale.ROOT, "records=%d all=%d seconds=%.6f%n", records - warm, records, seconds);
    }
  }

  static void pace(String bootstrap, String topic, int rate, int seconds, int bytes) throws Exception {
    byte[] value = value(bytes);
    int records = rate * seconds, warm = rate;
    long[] latencies = new long[records];
    var failed = new ConcurrentLinkedQueue<Exception>();
    try (var producer = producer(bootstrap, Map.of("linger.ms", 0))) {
      long begin = System.nanoTime();
      for (int at = -warm; at < records; at++) {
        long due = begin + (long) ((at + warm) * 1e9 / rate);
        while (System.nanoTime() < due) Thread.sleep(0, 100_000);
        int number = at;
        long sent = System.nanoTime();
        producer.send(new ProducerRecord<>(topic, value), (done, error) -> {
          if (error != null) failed.add(error);
          if (number >= 0) latencies[number] = System.nanoTime() - sent;
        });
      }
      producer.flush();
    }
    if (!failed.isEmpty()) throw failed.peek();
    Arrays.sort(latencies);
    System.out.printf(Locale.ROOT, "records=%d p50_us=%.1f p99_us=%.1f p999_us=%.1f%n", records,
        latencies[records / 2] / 1e3, latencies[(int) (records * 0.99)] / 1e3, latencies[(int) (records * 0.999)] / 1e3);
  }

  static void consume(String bootstrap, String topic, int records) {
    var settings = Map.<String, Object>of("bootstrap.servers", bootstrap);
    try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      var partitions = List.of(new TopicPartition(topic, 0));
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      int warm = records / 10, got = 0, counted = 0;
      long begin = 0, silent = System.nanoTime();
      while (got < records) {
        int count = consumer.poll(Duration.ofSeconds(1)).count();
        if (count > 0) silent = System.nanoTime();
        if (System.nanoTime() - silent > 20e9) throw new IllegalStateException("nothing came after " + got + " records");
        if (begin != 0) counted += count;
        got += count;
        if (begin == 0 && got >= warm) begin = System.nanoTime();
      }
      double seconds = (System.nanoTime() - begin) / 1e9;
      System.out.printf(Locale.ROOT, "records=%d all=%d seconds=%.6f%n", counted, got, seconds);
    }
  }
}
